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

__all__ = ["machine", "publish"]

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    model = (
        re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if os.path.exists("/proc/cpuinfo")
        else None
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent, check=False)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("declora", "numpy", "scipy", "torch")]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()} and declora {_bridge.threads()}",
        "instructions": _bridge.level(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "commit": head.stdout.strip() or "unknown",
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def publish(
    name: str, title: str, facts: Mapping[str, str], columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Prints one table with what it depends on, and writes it to `results/<date>-<cpu>-<instruction set>-<name>.md`."""
    lines = [f"# {title}", "", *(f"- {fact}: {value}" for fact, value in facts.items()), ""]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    cpu = re.sub(r"[^a-z0-9]+", "-", facts["cpu"].lower()).strip("-")
    (RESULTS / f"{facts['date']}-{cpu}-{facts['instructions']}-{name}.md").write_text(text)
