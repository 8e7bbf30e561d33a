"""How something gets onto the disk for good: whole files, and the names of what is in a folder."""

import errno
import os
import sys
from pathlib import Path

__all__ = ["read_file", "sync_file", "sync_folder", "write_all", "write_file"]

_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLDERS = (errno.EBADF, errno.EINVAL)
"""How a file system says that a folder cannot be synced."""


def write_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a file, which is on the disk when this returns; its name may not be, see `sync_folder`.

    Args:
        path: Of the file.
        data: Its content.
        mode: Who may read and write a new one, as far as the system allows it.

    Raises:
        OSError: It cannot be written.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, mode)
    try:
        write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def write_all(file: int, data: bytes) -> None:
    """Writes all of `data` to an open file.

    Raises:
        OSError: It cannot be written; a part of it may be.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def read_file(path: Path, *, most: int) -> bytes:
    """Returns the content of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It has more than `most` bytes.
    """
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return data


def sync_file(path: Path) -> None:
    """Makes sure that what was written to a file is on the disk.

    Raises:
        OSError: It cannot be.
    """
    file = os.open(path, os.O_RDWR | _BINARY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Makes sure that the names in a folder are on the disk, where the file system has that.

    Raises:
        OSError: They cannot be.
    """
    if sys.platform == "win32":  # folders cannot be opened there
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise
    finally:
        os.close(folder)
