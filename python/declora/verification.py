"""`verify`: a run recomputed from its start, and compared with what its folder holds of it, round by round."""

import filecmp
import itertools
import json
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from declora.errors import RunFolderError, shown
from declora.origin import describe_origin, differences, keep_groups
from declora.outputs import adapter_folders
from declora.recording import planned_since
from declora.report import Earlier, Progress, find_run
from declora.report.earlier import load_checkpoint, run_of
from declora.report.folder_errors import reporting
from declora.report.json_lines import METRICS, line_of, whole_lines
from declora.result import SimulationResult
from declora.run import RoundRecord, Run
from declora.settings import of_run
from declora.simulation import computing, configs_of, ready
from declora.store import Checkpoint

__all__ = ["Verification", "verify"]

_OLDER = "blake2b:"
"""How digests of states began that were of whole arrays, see `measuring.DIGEST`."""


@dataclass(frozen=True)
class Verification:
    """What recomputing a run, or the runs of a comparison, has found.

    Attributes:
        rounds: How many rounds of each run are as its folder holds them, by label.
        differences: Where the first difference of each run is, and what else is not as computed, in whole sentences.
        notes: What may be the reason: what a run began with that is different now. And what was not compared.
    """

    rounds: Mapping[str, int]
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all is as computed."""
        return not self.differences

    def __str__(self) -> str:
        """A line for each run, difference and note."""
        equal = [f"{label}: {count} rounds are as recomputed." for label, count in self.rounds.items()]
        return "\n".join([*equal, *self.differences, *self.notes])


def verify(path: str | os.PathLike[str], *, progress: bool | None = None, **objects: Any) -> Verification:
    """Recomputes the run in a folder from its start and compares; nothing in the folder is changed.

    All that was measured of every round is compared, but for times, and with it the digest of the state after the round
    where the run keeps checkpoints; then its newest checkpoint, and the adapters that were written at the end.

    Args:
        path: What `out` named, of a run or a comparison, finished or not.
        progress: As in `simulate`.
        **objects: Settings that were objects (`model`, `data`, `topology` ...), which a folder cannot hold.

    Returns:
        How many rounds are as recomputed, and the first that is not.

    Raises:
        RunFolderError: There is no run, or it cannot be read.
        DecloraError: As `simulate`.
    """
    config = of_run(path, find_run(path), {"callbacks": None, **objects}, asked="verify")
    configs = configs_of(config.override(out=os.path.realpath(path)))
    begun = {label: own for label, own in configs.items() if os.path.isdir(str(own.out))}
    with computing(config):
        found = [_verify(label, run, progress) for label, run in ready(begun).items()]
    return Verification(
        {label: count for one in found for label, count in one.rounds.items()},
        tuple(text for one in found for text in one.differences),
        tuple(dict.fromkeys(text for one in found for text in one.notes)),
    )


def _verify(label: str, run: Run, progress: bool | None) -> Verification:
    folder = Path(str(run.config.out))
    differing: list[str] = []
    with reporting(f"path={str(folder)!r}", " cannot be read", "Name the folder of a run"):
        records = [json.loads(line) for line in whole_lines(folder / METRICS)]
        try:
            checkpoint = load_checkpoint(folder)
        except RunFolderError as error:
            checkpoint, differing = None, [str(error)]
    if checkpoint is not None:
        keep_groups(run, checkpoint.about.get("origin", {}))
    equal, older = 0, 0
    planned = planned_since(checkpoint, run.config.rounds)
    recomputed = _recompute(run, run_of(folder), planned, len(records))
    with closing(Progress(len(records), f"verify {label}", progress)) as bar, closing(recomputed):
        for part, record in recomputed:
            bar.update(record)
            now = _as_measured(records[equal], json.loads(line_of(record)), part)
            if str(records[equal].get("state_digest")).startswith(_OLDER):
                older, now["state_digest"] = older + 1, records[equal]["state_digest"]
            if difference := _compare(records[equal], now):
                differing.append(f"{label}: round {equal + 1} is the first that differs: {difference}.")
                break
            equal += 1
            if checkpoint is not None and checkpoint.event == part.state.event:
                differing += _compare_states(f"{label}: the checkpoint of round {equal}", checkpoint, part)
        else:
            if records and equal == run.config.rounds:
                differing += _compare_adapters(label, folder, part)
    notes = _reasons(run, checkpoint) if differing else ()
    if older:
        notes += (f"{label}: digests of the state in {older} of {equal} rounds are of an earlier form: not compared.",)
    return Verification({label: equal}, tuple(differing), notes)


def _recompute(
    run: Run, name: str | None, planned: Sequence[tuple[int, int]], rounds: int
) -> Generator[tuple[Run, RoundRecord]]:
    """Yields the records of a run from its start, each with the run that computed it.

    Args:
        run: The run.
        name: What names it in its messages, of which attacks may remember some.
        planned: From which round on how many were planned, since the learning rate goes by that.
        rounds: Where to end.
    """
    earlier = Earlier.nothing() if name is None else Earlier(name)
    for (_, total), (until, _) in itertools.pairwise([*planned, (rounds, 0)]):
        if (count := min(until, rounds) - earlier.event) < 1:
            continue
        part = run if total == run.config.rounds else Run(run.config.override(rounds=total), run.material)
        with closing(part.rounds(earlier)) as records:
            for record in itertools.islice(records, count):
                yield part, record
                last = record
        found = Checkpoint(earlier.run, part.state.event, part.state.arrays())
        earlier = Earlier(earlier.run, found, [last])


def _as_measured(stored: Mapping[str, Any], computed: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Returns what of a recomputed round was measured in the stored one: ranks measure less where nothing is evaluated.

    What is left out is made of the state, whose digest is compared.
    """
    of_all = {"consensus_distance", *run.method.measured(run.state)}
    less = "consensus_distance" not in stored and "product_distance" not in computed and "state_digest" in stored
    return {name: value for name, value in computed.items() if not (less and name in of_all)}


def _compare(stored: Mapping[str, Any], computed: Mapping[str, Any], whose: str = "") -> str | None:
    """Returns what of a round, or of a client in it, is not as its line says, None where all is; times may differ."""
    for name in [*computed, *(name for name in stored if name not in computed)]:
        then, now = stored.get(name), computed.get(name)
        if name.startswith("seconds_") or then == now:
            continue
        if name == "clients" and isinstance(then, list) and [type(row) for row in then] == [dict] * len(now or ()):
            rows = zip(then, now or (), strict=True)
            return next(filter(None, (_compare(row, own, f" of client {own['client']}") for row, own in rows)), None)
        return f"{name}{whose} is {shown(then)} in {METRICS} and {shown(now)} recomputed"
    return None


def _compare_states(what: str, stored: Checkpoint, run: Run) -> list[str]:
    now = run.state.arrays()
    names = sorted(now.keys() ^ stored.arrays.keys()) or [
        name for name, array in now.items() if array.tobytes() != stored.arrays[name].tobytes()
    ]
    return [f"{what} is not as recomputed: {names[0]!r} differs."] if names else []


def _compare_adapters(label: str, folder: Path, run: Run) -> list[str]:
    """Returns which adapters in a folder are not those of a run that has finished; of one without any, none."""
    if not (folder / "adapters").is_dir():
        return []
    result = SimulationResult(run.config, run.partition, run.federation, {}, run.outcome([]))
    differing = []
    with tempfile.TemporaryDirectory() as stage:
        for name, write in adapter_folders(result).items():
            write(Path(stage, name))
            ours, theirs = (Path(where, name, "adapter_model.safetensors") for where in (stage, folder))
            if not theirs.is_file() or not filecmp.cmp(ours, theirs, shallow=False):
                differing.append(f"{label}: {name} is not as recomputed.")
    return differing


def _reasons(run: Run, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    """Returns what is not as when the run was begun, in whole sentences."""
    if checkpoint is None:
        return ()
    changed = differences(checkpoint.about.get("origin", {}), describe_origin(run))
    return tuple(f"Since the run began, {text}." for text in changed)
