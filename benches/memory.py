"""Memory of a simulation: what N clients add to the base, beside 16 N D; prints a table and keeps it.

Run `python benches/memory.py`. Each number of clients is a process of its own: two rounds of Dec-LoRA on a ring (more
by `--rounds`: does memory grow?) with 1,000 steps each, divided among the clients, evaluated at the end;
all-MiniLM-L6-v2, rank 8 on query and value and a trained head. The base is what the process holds once model and data
are loaded, the peak is the most that it ever held (`VmHWM`). A client is four float32 rows of D (adapter, gradient, two
moments of AdamW) and its message.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from declora.config import SimulationConfig
from declora.prepare import prepare
from declora.run import Run
from publish import machine, publish

SST2 = Path(__file__).parents[2] / "shared" / "data" / "sst2"
CLIENTS = (10, 100, 1000)
GROUP = 10


def measure(clients: int, codec: str, rounds: int) -> dict[str, int]:
    """Runs it in this process; returns bytes: of the base, the peak, four rows of each client, and the messages."""
    config = SimulationConfig(
        data=str(SST2) if SST2.is_dir() else "stdlib-docstrings", clients=clients, topology="ring", partition="iid",
        local_steps=max(CLIENTS) // clients, rounds=rounds, eval_every=rounds, batch_size=4, group_size=GROUP,
        codec=codec, client_eval_samples=4,
        lora={"r": 8, "target_modules": ["query", "value"]},
    )  # fmt: skip
    material = prepare(config)
    base = held("VmRSS")
    run = Run(config, material)
    columns = run.layout.columns
    run.execute(lambda record: None)
    return {
        "columns": columns,
        "base": base,
        "peak": held("VmHWM"),
        "rows": 16 * clients * columns,
        "messages": clients * run.federation.codec.frame_bytes(columns),
    }


def held(field: str) -> int:
    """Returns a figure of /proc/self/status in bytes."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        sys.exit(f"/proc/self/status has no {field}: this bench needs Linux")
    return 1024 * int(found[1])


def main() -> None:
    """Measures, prints and writes a page of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="q4", help="codec of the messages")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of 1,000 steps")
    parser.add_argument("--clients", type=int, help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.clients:
        print(json.dumps(measure(options.clients, options.codec, options.rounds)))
        return
    facts = {**machine(), "rounds": str(options.rounds), "codec": options.codec, "group": f"{GROUP} clients x 4 texts"}
    table = []
    for clients in CLIENTS:
        words = [sys.executable, __file__, "--codec", options.codec, "--rounds", str(options.rounds)]
        words += ["--clients", str(clients)]
        answer = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(answer.stdout.splitlines()[-1])
        added = found["peak"] - found["base"]
        parts = [found["base"], found["peak"], added, found["rows"], found["messages"]]
        parts.append(added - found["rows"] - found["messages"])
        table.append((str(clients), f"{found['columns']:,}", *(f"{part / 1e6:,.0f}" for part in parts)))
    columns = ["clients", "D", "base, MB", "peak, MB", "peak - base", "16 N D", "messages", "the rest"]
    publish("memory", "Memory of a simulation", facts, columns, table)


if __name__ == "__main__":
    main()
