"""Kills runs at random moments, takes each up again until it ends, and compares it with one never touched.

    python benches/kills.py --kills 500

One of each thing that a run remembers between rounds (`tests/resumable.py`): every memory of a codec, every mixer,
attacks with a past, every method. Prints a line for each, and then kills, seconds and whether all were equal.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from kills import run_whole, run_with_kills
from resumable import RUNS, adapters_of, rounds_of


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS), metavar="NAME", help="default: all")
    options = parser.parse_args()
    start, killed, equal, ended = time.perf_counter(), 0, True, 0
    for number, name in enumerate(options.runs):
        settings, count = RUNS[name], len(options.runs)
        wanted = (options.kills * (number + 1)) // count - (options.kills * number) // count
        rng = np.random.default_rng([options.seed, number])
        with tempfile.TemporaryDirectory() as home:
            whole, longest = run_whole(Path(home) / "whole", settings)
            found = Counter()
            for out, kills in run_with_kills(Path(home) / "killed", settings, kills=wanted, longest=longest, rng=rng):
                same = rounds_of(out) == rounds_of(whole) and adapters_of(out) == adapters_of(whole)
                found.update(runs=1, kills=kills, equal=int(same))
        killed, ended, equal = killed + found["kills"], ended + found["runs"], equal and found["equal"] == found["runs"]
        print(f"{name:20} {found['kills']:4} kills, {found['equal']} of {found['runs']} runs equal", flush=True)
    seconds = time.perf_counter() - start
    print(f"{killed} kills, {ended} runs, {seconds:.0f} seconds, {'all equal' if equal else 'NOT ALL EQUAL'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
