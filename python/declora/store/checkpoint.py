"""A checkpoint: the state of a run after an event, as arrays by name, and its two files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from declora.errors import cut, translated
from declora.store.disk import read_file, write_file
from declora.store.shard import Shard
from declora.store.sound import UnsoundCheckpoint, read_arrays, write_arrays

__all__ = ["ABOUT", "STATE", "Checkpoint", "read", "write"]

STATE = "state.safetensors"
ABOUT = "about.json"
_LONGEST = 2**24
"""Bytes of `about.json`; it holds settings, not values."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an event.

    Attributes:
        run: Names the run.
        event: Events (rounds) that are finished.
        arrays: The state, by name; of one that is written by several ranks, what rank 0 has of it.
        about: What a run has to know to go on from it, in the types of JSON.
        shards: Of one that is written by several ranks: what the others have written, in their order.
        notes: Of one that was loaded: why newer ones were passed over, in whole sentences.
    """

    run: str
    event: int
    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    notes: tuple[str, ...] = ()


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes the files of a checkpoint into `folder`; they are on the disk when this returns.

    Raises:
        OSError: They cannot be written.
        TypeError, ValueError: `about` has no form in JSON, or an array none in safetensors.
    """
    about = {"event": checkpoint.event, "run": checkpoint.run, "about": dict(checkpoint.about)}
    write_arrays(folder / STATE, checkpoint.arrays)
    write_file(folder / ABOUT, (json.dumps(about, indent=1, allow_nan=False) + "\n").encode())


def read(folder: Path) -> Checkpoint:
    """Returns the checkpoint in `folder`, whose files have been found to be as they were written.

    Raises:
        UnsoundCheckpoint: They are not what a checkpoint holds.
    """
    about = _read_about(folder)
    return Checkpoint(about["run"], about["event"], read_arrays(folder / STATE), about["about"])


def _read_about(folder: Path) -> dict[str, Any]:
    with translated(lambda error: UnsoundCheckpoint(f"{ABOUT} cannot be read: {cut(error).rstrip('.')}.")):
        about = json.loads(read_file(folder / ABOUT, most=_LONGEST))
    wanted = {"event": int, "run": str, "about": dict}
    if not isinstance(about, dict) or {name: type(value) for name, value in about.items()} != wanted:
        raise UnsoundCheckpoint(f"{ABOUT} is not what a checkpoint holds.")
    return about
