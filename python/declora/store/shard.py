"""A shard: what a checkpoint has of the clients of another rank, in a file of its own beside the checkpoint's folder.

The rank writes it, and nobody changes it: it counts once a manifest names it with its size and its checksum.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora.errors import cut
from declora.store.disk import sync_folder
from declora.store.sound import UnsoundCheckpoint, check, describe, read_arrays, write_arrays

__all__ = ["STAGE", "Shard", "joined", "named", "read", "write"]

STAGE = re.compile(r"new-\d{4,9}", re.ASCII)
"""The folder in which a shard is written before it gets its name."""
_NAME = re.compile(r"event-(\d{8,18})\.rank-(\d{4,9})\.safetensors", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """A file with the rows of a rank's clients after an event.

    Attributes:
        event: Events that were finished.
        rank: Whose clients'.
        bytes: Its size.
        sha256: Its checksum, in hex.
    """

    event: int
    rank: int
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Of the file."""
        return _name(self.event, self.rank)

    @property
    def said(self) -> dict[str, Any]:
        """What a manifest says of the file."""
        return {"bytes": self.bytes, "sha256": self.sha256}


def named(name: str) -> tuple[int, int] | None:
    """Returns of which event and rank the shard is that has a name; None where none has it."""
    found = _NAME.fullmatch(name)
    event, rank = (int(found[1]), int(found[2])) if found else (0, 0)
    return (event, rank) if rank and name == _name(event, rank) else None


def write(folder: Path, event: int, rank: int, arrays: Mapping[str, NDArray[Any]]) -> Shard:
    """Writes a shard beside its place, and then gives it its name; both are on the disk when this returns.

    Raises:
        OSError: It cannot be written.
        TypeError, ValueError: An array has no form in safetensors.
    """
    stage, name = folder / f"new-{rank:04d}", _name(event, rank)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        write_arrays(stage / name, arrays)
        shard = Shard(event, rank, **describe(stage / name))
        os.replace(stage / name, folder / name)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)  # room for the rest of the run
        raise
    stage.rmdir()
    return shard


def read(folder: Path, shard: Shard) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a shard.

    Raises:
        UnsoundCheckpoint: It is not there, or not as it was written; names rank and file.
    """
    try:
        check(folder / shard.name, shard.said)
        return read_arrays(folder / shard.name)
    except UnsoundCheckpoint as error:
        raise UnsoundCheckpoint(f"rank {shard.rank}'s {error}") from error
    except OSError as error:
        raise UnsoundCheckpoint(
            f"rank {shard.rank}'s {shard.name} cannot be read: {cut(error).rstrip('.')}."
        ) from error


def joined(first: Mapping[str, NDArray[Any]], others: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Returns the arrays of all clients: those that shards have, too, are rows in the order of ranks.

    Args:
        first: Of rank 0, those that are no rows among them.
        others: Of the other ranks.

    Raises:
        UnsoundCheckpoint: They do not go together.
    """
    arrays = dict(first)
    for name in sorted({name for part in others for name in part}):
        parts = [part.get(name) for part in (first, *others)]
        have = [part for part in parts if part is not None and part.ndim]
        if len(have) != len(parts) or len({(part.dtype, part.shape[1:]) for part in have}) != 1:
            raise UnsoundCheckpoint(f"its shards do not have {name!r} alike.")
        arrays[name] = np.concatenate(have)
    return arrays


def _name(event: int, rank: int) -> str:
    return f"event-{event:08d}.rank-{rank:04d}.safetensors"
