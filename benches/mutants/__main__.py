"""Which small changes of the code the tests notice: `python benches/mutants` tries them and writes docs/mutants.md.

The changes of a room are tried in an order drawn from a fixed seed until its time is up, so a longer run tries the same
ones first. One is killed where a test fails or hangs. `changes.py` says what is changed, `equivalent.toml` which
changes change nothing, and why.
"""

import argparse
import datetime
import os
import platform
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from changes import Change, changed, changes
from core import check_installed, score_core
from score import Score
from trial import Suite, Trial, package

ROOT = Path(__file__).resolve().parents[2]
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "train": (
        ["train/*.py", "run.py"],
        [
            "order", "optimizer", "evaluate", "local_steps", "train", "run", "causal*", "generate", "unpad",
            "group_size", "memory", "tokenize", "fit", "sharing",
        ],
    ),
    "gossip": (["gossip.py"], ["gossip*", "refusals", "attack*", "copies", "dissensus"]),
    "codec": (["codec/*.py"], ["codec*", "gossip*", "refusals", "testing"]),
    "mixer": (["mixer/*.py"], ["mixer*", "gossip*", "refusals", "attack*"]),
}  # fmt: skip
"""By name: the files below the package, and the tests that are about them, by the rest of their names.

Whole runs (test_simulation and the like) notice much by luck; a room's own tests are to say what it promises.
"""
CORE = "core"
INTRODUCTION = """
# What the tests notice

The code is changed a little, one place at a time, and the tests of the room that pass there are run. A change that none
of them notices *lived*, unless it changes nothing that anybody could see (*equivalent*). A longer
`MUTANTS_MINUTES=240 make mutants` tries more changes, and the same ones first.
"""


def score(name: str, seconds: float, jobs: int) -> Score:
    """Tries changes of a room for so many seconds."""
    patterns, names = ROOMS[name]
    files = [file for pattern in patterns for file in sorted(package().glob(pattern))]
    tests = [str(test) for part in names for test in sorted((ROOT / "tests").glob(f"test_{part}.py"))]
    suite = Suite(files, list(dict.fromkeys(tests)))
    if suite.failed:
        raise SystemExit(f"mutants: tests of {name} fail without any change: {', '.join(suite.failed)}.")
    todo = [(file, change) for file in files for change in changes(file.read_text())]
    found = Score(len(todo))
    random.Random(0).shuffle(todo)
    todo.reverse()
    ends, running = time.monotonic() + seconds, list[tuple[Path, Change, Trial]]()
    while running or (todo and time.monotonic() < ends):
        while todo and len(running) < jobs and time.monotonic() < ends:
            file, change = todo.pop()
            running.append((file, change, _start(suite, file, change)))
        time.sleep(0.02)
        for file, change, trial in running:
            if trial.done:
                where = str(file.relative_to(package()))
                print(f"{name}: {trial.result:6} {where}:{change.lines.start} {change}", flush=True)
                found.note(where, change.lines.start, str(change), killed=trial.result != "lived")
        running = [entry for entry in running if not entry[2].result]
    return found


def _start(suite: Suite, file: Path, change: Change) -> Trial:
    tests = suite.quick_first() if change.runs_at_import else suite.of(file, change.lines)
    # Ten times the undisturbed time: what takes longer waits for something.
    seconds = 20 + 10 * sum(suite.seconds[test] for test in tests)
    return Trial(file, changed(file.read_text(), change.number), tests, seconds)


def page(scores: Mapping[str, Score], rooms: Sequence[str], minutes: float, jobs: int) -> str:
    """Returns docs/mutants.md."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    lines = [
        *INTRODUCTION.strip().splitlines(),
        "",
        f"- date: {datetime.date.today().isoformat()}, commit {commit or 'unknown'}",
        f"- command: `python benches/mutants {' '.join(rooms)} --minutes {minutes:g} --jobs {jobs}`",
        f"- machine: {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "",
        "| room | changes | tried | killed | lived | equivalent | killed of killed and lived |",
        "|---|---|---|---|---|---|---|",
        *(room.row(name) for name, room in scores.items()),
    ]
    for title, kind in (("Lived", "lived"), ("Equivalent", "equivalent")):
        entries = [f"- {entry}" for room in scores.values() for entry in sorted(getattr(room, kind))]
        lines += ["", f"## {title}", "", *entries] if entries else []
    return "\n".join([*lines, ""])


def main() -> None:
    """Tries changes of the rooms asked for, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)} and {CORE}; none: all")
    parser.add_argument("--minutes", type=float, default=40.0, help="of all rooms, without a first run of their tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="changes tried at once")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "mutants.md", help="what is written")
    options = parser.parse_args()
    rooms = options.rooms or [*ROOMS, CORE]
    if unknown := set(rooms) - {*ROOMS, CORE}:
        parser.error(f"there is no room {', '.join(sorted(unknown))}: choose of {', '.join([*ROOMS, CORE])}")
    seconds = 60 * options.minutes / len(rooms)
    if CORE in rooms:
        check_installed()
    os.chdir(ROOT)  # the names that pytest has for tests begin there
    scores: dict[str, Score] = {}
    for name in rooms:
        scores |= score_core(ROOT, seconds) if name == CORE else {name: score(name, seconds, options.jobs)}
    options.page.write_text(page(scores, rooms, options.minutes, options.jobs))


if __name__ == "__main__":
    main()
