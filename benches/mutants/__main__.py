"""Which small changes of the code the tests notice: `python benches/mutants` runs them and writes docs/mutants.md.

The changes of a room are tried in an order drawn from a fixed seed until its time is up, so a longer run tries the same
ones first. One is killed where a test fails or hangs. `changes.py` says what is changed, `equivalent.toml` which
changes change nothing, and why.
"""

import argparse
import datetime
import json
import os
import platform
import random
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from changes import Change, changed, changes
from trial import Suite, Trial, package

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "train": (
        ["train/*.py", "run.py"],
        ["order", "optimizer", "evaluate", "local_steps", "train", "run", "causal", "generate", "unpad"],
    ),
    "gossip": (["gossip.py"], ["gossip", "attacks"]),
    "codec": (["codec/*.py"], ["codec", "gossip", "testing"]),
    "mixer": (["mixer/*.py"], ["mixer", "gossip", "attacks"]),
}
"""By name: the files below the package, and the tests that are about them, by the rest of their names.

Whole runs (test_simulation and the like) notice much by luck; a room's own tests are to say what it promises.
"""


@dataclass
class Score:
    """What became of the changes of a room."""

    number: int
    """Changes in all."""
    results: Counter[str] = field(default_factory=Counter)
    """How many were killed, lived, or are equivalent."""
    lived: list[str] = field(default_factory=list)
    equivalent: list[str] = field(default_factory=list)

    def note(self, file: str, change: Change, result: str) -> None:
        """Counts one; `result` is killed, time or lived."""
        reason = EQUIVALENT.get(file, {}).get(str(change))
        kind = "killed" if result != "lived" else "lived" if reason is None else "equivalent"
        self.results[kind] += 1
        if kind != "killed":
            line = f"`{file}:{change.lines.start}` {change}"
            (self.lived if reason is None else self.equivalent).append(line if reason is None else f"{line}: {reason}")


def score(name: str, seconds: float, jobs: int) -> Score:
    """Tries changes of a room for so many seconds."""
    patterns, names = ROOMS[name]
    files = [file for pattern in patterns for file in sorted(package().glob(pattern))]
    suite = Suite(files, [str(ROOT / "tests" / f"test_{test}.py") for test in names])
    if suite.failed:
        raise SystemExit(f"mutants: a test of {name} fails without any change. Run `make python-test` first.")
    todo = [(file, change) for file in files for change in changes(file.read_text())]
    found = Score(len(todo))
    random.Random(0).shuffle(todo)
    todo.reverse()
    ends, running = time.monotonic() + seconds, list[tuple[Path, Change, Trial]]()
    while running or (todo and time.monotonic() < ends):
        if todo and len(running) < jobs and time.monotonic() < ends:
            file, change = todo.pop()
            tests = suite.quick_first() if change.runs_at_import else suite.of(file, change.lines)
            if not tests:
                found.note(str(file.relative_to(package())), change, "lived")
                continue
            # Ten times the undisturbed time: what takes longer waits for something.
            most = 20 + 10 * sum(suite.seconds[test] for test in tests)
            running.append((file, change, Trial(file, changed(file.read_text(), change.number), tests, most)))
            continue
        time.sleep(0.02)
        for file, change, trial in running:
            if trial.done:
                found.note(str(file.relative_to(package())), change, trial.result)
                print(f"{name}: {trial.result:6} {file.name}:{change.lines.start} {change}", flush=True)
        running = [entry for entry in running if not entry[2].result]
    return found


def rust(folder: Path) -> dict[str, Score]:
    """Reads what cargo-mutants left in `folder`: a score for each room of the core."""
    scores: dict[str, Score] = defaultdict(lambda: Score(0))
    for outcome in json.loads((folder / "outcomes.json").read_text())["outcomes"]:
        mutant = outcome["scenario"]["Mutant"] if isinstance(outcome["scenario"], dict) else None
        if mutant is None or outcome["summary"] == "Unviable":
            continue
        room = scores["core, " + Path(mutant["file"]).relative_to("rust/core/src").parts[0].removesuffix(".rs")]
        room.number += 1
        room.results["lived" if outcome["summary"] == "MissedMutant" else "killed"] += 1
        if outcome["summary"] == "MissedMutant":
            room.lived.append(f"`{mutant['name'].removeprefix('rust/core/src/')}`")
    return dict(sorted(scores.items()))


def page(scores: Mapping[str, Score], options: argparse.Namespace) -> str:
    """Returns docs/mutants.md."""
    commit = os.popen(f"git -C '{ROOT}' rev-parse --short HEAD").read().strip() or "unknown"
    head = [
        "# What the tests notice",
        "",
        "Small changes are made to the code, one at a time, and the tests that pass the line are run: a change that no "
        "test notices *lived*, unless it changes nothing that anybody could see (*equivalent*, with the reason below). "
        "Made by `make mutants`; `MUTANTS_MINUTES=120` tries more of them, and the same ones first.",
        "",
        f"- date: {datetime.date.today().isoformat()}, commit {commit}",
        f"- command: `MUTANTS_MINUTES={options.minutes:g} make mutants`",
        f"- machine: {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "",
        "| room | changes | tried | killed | lived | equivalent | killed of those that are not equivalent |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, room in scores.items():
        killed, lived = room.results["killed"], room.results["lived"]
        share = f"{100 * killed / (killed + lived):.1f} %" if killed + lived else ""
        row = [name, room.number, room.results.total(), killed, lived, room.results["equivalent"], share]
        head.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join([*head, *_listed("Lived", scores, "lived"), *_listed("Equivalent", scores, "equivalent"), ""])


def _listed(title: str, scores: Mapping[str, Score], kind: str) -> Sequence[str]:
    lines = [f"- {line}" for room in scores.values() for line in sorted(getattr(room, kind))]
    return ["", f"## {title}", "", *lines] if lines else []


def main() -> None:
    """Tries changes of the rooms asked for, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help="which rooms; all where none is named")
    parser.add_argument("--minutes", type=float, default=20.0, help="for all rooms, without a first run of their tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="changes tried at once")
    parser.add_argument("--cargo", type=Path, help="the folder mutants.out of a run of cargo-mutants, for the page")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "mutants.md", help="what is written")
    options = parser.parse_args()
    rooms = options.rooms or list(ROOMS)
    scores = {name: score(name, 60 * options.minutes / len(rooms), options.jobs) for name in rooms}
    if options.cargo is not None:
        scores |= rust(options.cargo)
    options.page.write_text(page(scores, options))


if __name__ == "__main__":
    main()
