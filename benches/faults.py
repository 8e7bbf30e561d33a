"""Checks many seeds of faults: each round a round on a smaller graph, the mean kept, the log the same twice.

Each seed has loss, delay, duplicates, reordering, dropout and a partition together.

    python benches/faults.py --seeds 2000

What is checked is what the tests check of a few seeds (`tests/lossy.py`). Ends at the first seed that breaks anything.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from declora.topology import Topology
from lossy import ALL, LATE, ROUNDS, STRAY, check_mean, check_rounds

GRAPHS = ("ring", "erdos-renyi:0.4", "complete", "random-regular:4")
CODECS = ("none", "q4", "q4+choco", "q2+ef", "topk:fraction=0.2+choco")


def main() -> None:
    """Goes through the seeds; each has the next graph and codec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=12)
    options = parser.parse_args()
    start, counts = time.perf_counter(), Counter[str]()
    graphs = [Topology.build(name, options.clients, seed=3) for name in GRAPHS]
    for seed in range(options.seeds):
        graph, codec = graphs[seed % len(graphs)], CODECS[seed % len(CODECS)]
        for record in check_rounds(graph, seed):
            counts.update({name: value for name, value in record.items() if isinstance(value, int)})
        check_mean(graph, codec, seed, f"{ALL if 'choco' in codec else LATE}+{STRAY}")  # which wants order
    seconds = time.perf_counter() - start
    found = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(
        f"{options.seeds} seeds of {ROUNDS} rounds, {options.clients} clients: nothing broken; {found}; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
