"""`audit`: the ledger of a run checked record by record, against what else the folder holds, and by recomputing it."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from declora.errors import RunFolderError, shown
from declora.ledger import LEDGER, Chain, check_installed, digest, read_chain
from declora.origin import brief
from declora.report import find_run
from declora.report.belongings import Belongings
from declora.report.earlier import load_checkpoint
from declora.report.folder_errors import reporting
from declora.report.json_lines import METRICS, whole_lines
from declora.settings import load_toml
from declora.verification import Verification, verify

__all__ = ["Audit", "audit"]

_KINDS = ("message", "adapter")
_LONGEST = 2**30
"""Bytes of a run's settings, which may hold a mixing matrix of thousands of clients."""


@dataclass(frozen=True)
class Audit:
    """What the ledger of a run, or those of the runs of a comparison, are worth.

    Attributes:
        chains: The ledger of each run, by the name of its folder.
        differences: What is broken first in each ledger, and where it is not what else the folder holds, in whole
            sentences.
        verification: What recomputing has found; None where nothing was recomputed.
    """

    chains: Mapping[str, Chain]
    differences: tuple[str, ...] = ()
    verification: Verification | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing is broken, and all is as recomputed where that was asked for."""
        return not self.differences and (self.verification is None or self.verification.holds)

    def __str__(self) -> str:
        """A line for each run, difference and note."""
        lines = [
            f"{name}: {chain.rounds} rounds, signed by {chain.clients} clients, head {chain.head or 'none'}."
            for name, chain in self.chains.items()
        ]
        replayed = [] if self.verification is None else [str(self.verification)]
        return "\n".join([*lines, *self.differences, *replayed])


def audit(path: str | os.PathLike[str], *, replay: bool = False, progress: bool | None = None, **objects: Any) -> Audit:
    """Checks the ledger of the run in a folder; nothing in the folder is changed.

    Every record must be in its one form, have the hash of the one before, be signed by each client, and have the hash
    of what it holds. Then `config.json` must have the settings that the first record names, and `metrics.jsonl` and
    the adapters in the newest checkpoint the digests that the others have. With `replay` the run is recomputed by
    `declora.verify`, and so are all digests.

    Args:
        path: What `out` named, of a run or a comparison with `ledger`, finished or not.
        replay: Whether to recompute, which takes as long as the run did.
        progress: As in `simulate`.
        **objects: With `replay`, settings that were objects (`model`, `data`, `topology` ...), which a folder cannot
            hold.

    Returns:
        How many rounds are sound, the head of the chain, and what is broken first.

    Raises:
        RunFolderError: There is no run, it has no ledger, or it cannot be read.
        ConfigError: The package `cryptography` is not installed.
        DecloraError: With `replay`, as `simulate`.
    """
    check_installed("audit")
    chains: dict[str, Chain] = {}
    differing: list[str] = []
    for name, folder in _runs(path).items():
        with reporting(f"path={str(folder)!r}", " cannot be read", "Name the folder of a run"):
            chain = chains[name] = read_chain(whole_lines(folder / LEDGER))
            found = [*([] if chain.fault is None else [chain.fault]), *_compare(folder, chain)]
        differing += [f"{name}: {text}" for text in found]
    verification = verify(path, progress=progress, **objects) if replay else None
    return Audit(chains, tuple(differing), verification)


def _runs(path: str | os.PathLike[str]) -> dict[str, Path]:
    """Returns the folders of the runs in one, by name, each with a ledger."""
    folder = find_run(path)
    inner = (Belongings.read(folder) or Belongings()).inner_runs(folder)
    runs = {name: folder / name for name in inner} or {Path(os.path.realpath(folder)).name: folder}
    if without := [where for where in runs.values() if not (where / LEDGER).is_file()]:
        raise RunFolderError(
            f"path={str(without[0])!r} is a run without a ledger. Begin it again with ledger=True, or recompute it: "
            f"declora verify {os.fspath(path)}."
        )
    return runs


def _compare(folder: Path, chain: Chain) -> Iterator[str]:
    """Yields what the sound records of a ledger and what else there is of the run do not have in common."""
    if not chain.records:
        return
    then, now = chain.records[0]["origin"].get("settings"), load_toml(folder / "config.json", longest=_LONGEST)
    for name, value in (then if isinstance(then, dict) else {}).items():
        if brief(now.get(name)) != value:
            yield f"config.json has {name}={shown(now.get(name))}, and the ledger {shown(value)}."
    measured = whole_lines(folder / METRICS)
    for line, record in zip(measured, chain.records[1:], strict=False):
        if text := _differing(METRICS, record, _measured(line), _KINDS):
            yield text
            break
    if chain.fault is None and len(measured) > chain.rounds:
        yield f"{METRICS} has {len(measured)} rounds, and the ledger records of {chain.rounds}."
    try:
        checkpoint = load_checkpoint(folder)
    except RunFolderError as error:
        yield str(error)
        return
    if checkpoint is not None and 0 < checkpoint.event <= chain.rounds:
        rows = [(digest(row),) for row in checkpoint.arrays["adapter/adapter"]]
        what = f"the checkpoint of round {checkpoint.event}"
        if text := _differing(what, chain.records[checkpoint.event], rows, _KINDS[1:]):
            yield text


def _measured(line: bytes) -> list[tuple[Any, ...]]:
    """Returns the digests of each client in a line of `metrics.jsonl`, none of a line that is something else."""
    try:
        return [tuple(row.get(f"{kind}_digest") for kind in _KINDS) for row in json.loads(line)["clients"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _differing(what: str, record: Mapping[str, Any], rows: Sequence[Sequence[Any]], kinds: Sequence[str]) -> str | None:
    """Returns the first digest of a round in which something is not as the ledger has it."""
    entries, number = record["clients"], record["round"]
    if len(rows) != len(entries):
        return f"{what} has digests of {len(rows)} clients in round {number}, and the ledger of {len(entries)}."
    for client, (entry, row) in enumerate(zip(entries, rows, strict=True)):
        for kind, value in zip(kinds, row, strict=True):
            if entry[kind] != value:
                return f"{what} has another {kind} of client {client} in round {number} than the ledger."
    return None
