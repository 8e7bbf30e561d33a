"""Locks a folder; the lock ends with the process that holds it."""

import contextlib
import errno
import os
import secrets
import sys
import warnings
import weakref
from pathlib import Path

__all__ = ["LOCK", "PRIVATE", "FolderInUse", "FolderLock", "token_of"]

PRIVATE = ".declora"
"""The folder in a run folder for what is there only while a run goes on: the lock, and what is being written."""
LOCK = f"{PRIVATE}/lock"
"""The file that is locked; it holds the number of the process, and below it a token of this lock."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""How a file system says that it has no locks."""


class FolderInUse(Exception):
    """A folder is held by another run; the text says by which process, where that is known."""


class FolderLock:
    """Holds the lock of a folder: `flock` on a file in it, which a process that dies gives up.

    Where the system has no `flock` (Windows), and with a warning where the file system has none, nobody is kept out.

    Args:
        folder: an existing folder.

    Attributes:
        token: drawn for this lock: who reads it in a folder sees the folder that is locked.

    Raises:
        FolderInUse: another run holds it, in this process or another one.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        while True:
            try:
                (folder / PRIVATE).mkdir(exist_ok=True)
                self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                if not folder.is_dir():
                    raise
                continue  # its last holder removed `.declora` in between
            # Not by `self`, so that a lock that is forgotten is given up.
            self._close = weakref.finalize(self, os.close, self._file)
            if not _lock(self._file, folder):
                owner = os.read(self._file, 32).decode(errors="replace").partition("\n")[0].strip()
                self._close()
                raise FolderInUse(f"another run (process {owner})" if owner else "another run")
            if self.holds(folder):
                break
            self._close()  # its last holder removed the file after it was opened here
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n{self.token}\n".encode())

    def holds(self, folder: Path) -> bool:
        """Returns whether this is the lock of `folder`; it is not where the folder was removed or made anew."""
        try:
            return self._close.alive and os.path.samestat(os.stat(folder / LOCK), os.fstat(self._file))
        except OSError:
            return False

    def release(self, folder: Path) -> None:
        """Gives up the lock of `folder` and removes its file; a second call does nothing."""
        with contextlib.suppress(OSError):
            if self.holds(folder):
                (folder / LOCK).unlink()
                (folder / PRIVATE).rmdir()
        self._close()


def token_of(folder: Path) -> str | None:
    """Returns the token of the lock of a folder, None where there is none."""
    try:
        return (folder / LOCK).read_text().partition("\n")[2].strip() or None
    except (OSError, ValueError):
        return None


def _lock(file: int, folder: Path) -> bool:
    """Returns whether the lock could be had; True where there are no locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"out={str(folder)!r} is on a file system without locks: nothing keeps a second run from writing there.",
            stacklevel=2,
        )
    return True
