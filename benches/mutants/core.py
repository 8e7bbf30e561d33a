"""Changes of the Rust core, by cargo-mutants: a sample as large as there is time for."""

import json
import math
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from score import Score

__all__ = ["check_installed", "score_core"]

COMMAND = ("cargo", "mutants", "--package", "declora-core", "--no-shuffle", "--colors", "never")
SECONDS_EACH = 40
"""About what building and testing one change takes a machine of two cores."""


def check_installed() -> None:
    """Ends with what to do where cargo-mutants is not there."""
    if shutil.which("cargo-mutants") is None:
        raise SystemExit("mutants: the core's changes are made by cargo-mutants: cargo install cargo-mutants --locked")


def score_core(root: Path, seconds: float) -> dict[str, Score]:
    """Tries every n-th change of the core for so many seconds; returns a score for each of its rooms."""
    listed = json.loads(subprocess.check_output([*COMMAND, "--list", "--json"], cwd=root))
    scores: dict[str, Score] = defaultdict(Score)
    for mutant in listed:
        scores[_room(mutant["file"])].number += 1
    shards = max(1, round(len(listed) * SECONDS_EACH / seconds))
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.Popen(
            [*COMMAND, "--shard", f"0/{shards}", "--sharding", "round-robin", "--output", folder], cwd=root
        )
        found = Path(folder) / "mutants.out" / "outcomes.json"
        ends = math.inf
        while run.poll() is None:
            time.sleep(1)
            if ends == math.inf and found.exists():  # the tests have passed without a change
                ends = time.monotonic() + seconds
            if time.monotonic() > ends:
                run.send_signal(signal.SIGINT)  # so that it removes its copy of the tree
                run.wait()
        outcomes = json.loads(found.read_text())["outcomes"]
    if outcomes[0]["summary"] != "Success":
        raise SystemExit("mutants: a test of the core fails without any change. Run `make rust-test` first.")
    for outcome in outcomes:
        summary, scenario = outcome["summary"], outcome["scenario"]
        if summary not in ("CaughtMutant", "MissedMutant", "Timeout"):  # it does not compile, or is the baseline
            continue
        mutant = scenario["Mutant"]
        place, _, change = mutant["name"].partition(": ")  # FILE:LINE:COLUMN: what is changed
        line = int(place.split(":")[1])
        scores[_room(mutant["file"])].note(mutant["file"], line, change, killed=summary != "MissedMutant")
    return dict(sorted(scores.items()))


def _room(file: str) -> str:
    """The room of the core that a file is in: a folder of its sources, or the file itself."""
    return "core, " + Path(file).relative_to("rust/core/src").parts[0].removesuffix(".rs")
