"""Files of checkpoints: arrays by name, as safetensors writes them, and whether a file is as it was written."""

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from declora.errors import DecloraError, cut, translated
from declora.store.disk import sync_file

__all__ = ["UnsoundCheckpoint", "check", "describe", "read_arrays", "write_arrays"]


class UnsoundCheckpoint(DecloraError):
    """A checkpoint that cannot be used; the text says what is wrong with which file, and never reaches a user alone."""


def describe(path: Path) -> dict[str, Any]:
    """Returns the size and the checksum of a file, as a manifest has them.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def check(path: Path, said: Mapping[str, Any]) -> None:
    """Makes sure that a file is what `describe` said of it.

    Raises:
        OSError: It cannot be read.
        UnsoundCheckpoint: It is not; names the file and what is wrong with it.
    """
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        raise UnsoundCheckpoint(f"{path.name} is missing.") from error
    if not stat.S_ISREG(found.st_mode):
        raise UnsoundCheckpoint(f"{path.name} is not a file.")
    if found.st_size != said["bytes"]:
        raise UnsoundCheckpoint(f"{path.name} has {found.st_size:,} bytes instead of {said['bytes']:,}.")
    if describe(path) != said:
        raise UnsoundCheckpoint(f"{path.name} does not have the checksum that it was written with.")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays; they are on the disk when this returns, the file's name may not be, see `disk.sync_folder`.

    Raises:
        OSError: They cannot be written.
        TypeError, ValueError: One has no form in safetensors.
    """
    ordered = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    try:
        safetensors.numpy.save_file(ordered, path)
    except safetensors.SafetensorError as error:  # so it calls those of the system, too
        raise OSError(cut(error)) from error
    sync_file(path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays in a file; nothing is allocated beyond its own length.

    Raises:
        UnsoundCheckpoint: It holds none.
    """
    with translated(lambda error: UnsoundCheckpoint(f"{path.name} cannot be read: {cut(error).rstrip('.')}.")):
        return safetensors.numpy.load_file(path)
