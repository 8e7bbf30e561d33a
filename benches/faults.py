"""Checks many seeds of faults: each round a round on a smaller graph, the mean kept, the log the same twice.

    python benches/faults.py --seeds 2000

What is checked is what the tests check of a few seeds (`tests/lossy.py`). Ends at the first seed that breaks anything.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from declora.topology import Topology
from lossy import ROUNDS, check_mean, check_rounds

GRAPHS = ("ring", "erdos-renyi:0.4", "complete", "random-regular:4")
CODECS = ("none", "q4", "q4+choco", "q2+ef", "topk:fraction=0.2+choco")


def main() -> None:
    """Goes through the seeds; each has the next graph and codec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=12)
    options = parser.parse_args()
    start, lost, away = time.perf_counter(), 0, 0
    graphs = [Topology.build(name, options.clients, seed=3) for name in GRAPHS]
    for seed in range(options.seeds):
        log = check_rounds(graphs[seed % len(graphs)], seed)
        check_mean(graphs[seed % len(graphs)], CODECS[seed % len(CODECS)], seed)
        lost += sum(int(record["messages_lost"]) for record in log)
        away += sum(int(record["clients_away"]) for record in log)
    seconds = time.perf_counter() - start
    print(
        f"{options.seeds} seeds of {ROUNDS} rounds, {options.clients} clients: nothing broken; {lost:,} messages lost, "
        f"{away:,} client-rounds away, {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
