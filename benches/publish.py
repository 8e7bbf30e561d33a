"""What the figures of a bench depend on, and the file in `results/` that keeps them."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from declora import _bridge

__all__ = ["RESULTS", "machine", "publish"]

RESULTS = Path(__file__).parent / "results"


def machine(device: torch.device | None = None) -> dict[str, str]:
    """What the numbers depend on; of a GPU `device`, too."""
    model = (
        re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if os.path.exists("/proc/cpuinfo")
        else None
    )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("declora", "numpy", "scipy", "torch")]
    return {
        "date": datetime.date.today().isoformat(),
        **(_card(device) if device is not None and device.type == "cuda" else {}),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()} and declora {_bridge.threads()}",
        "instructions": _bridge.level(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "commit": _commit(),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def _commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent).stdout.strip() or "unknown"
    except OSError:  # a copy of the files alone, on a machine without git
        return "unknown"


def _card(device: torch.device) -> dict[str, str]:
    found = torch.cuda.get_device_properties(device)
    memory = f"{found.total_memory / 2**30:.0f} GiB"
    return {"card": found.name, "memory of the card": memory, "CUDA": str(torch.version.cuda)}


def publish(
    name: str,
    title: str,
    facts: Mapping[str, str],
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    folder: Path = RESULTS,
) -> None:
    """Prints one table with what it depends on, and writes it to `<date>-<what computed it>-<name>.md` in `folder`.

    What computed it is the card, or CPU and instruction set.
    """
    lines = [f"# {title}", "", *(f"- {fact}: {value}" for fact, value in facts.items()), ""]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    by = facts.get("card") or f"{facts['cpu']} {facts['instructions']}"
    by = re.sub(r"[^a-z0-9]+", "-", by.lower()).strip("-")
    (folder / f"{facts['date']}-{by}-{name}.md").write_text(text)
