"""Words the errors of a run folder: one line that names the folder, what is wrong, and what to do."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from declora.errors import RunFolderError, cut
from declora.report.lock import FolderInUse

__all__ = ["listed", "out_field", "reason", "reporting"]


def out_field(path: str | os.PathLike[str]) -> str:
    """Returns the setting as messages name it."""
    return f"out={os.fspath(path)!r}"


def reason(error: BaseException) -> str:
    """Returns why something failed, in one short line: the system's word for it, else the error's own."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return cut(text).rstrip(".").lower()


def listed(names: Sequence[str]) -> str:
    """Returns the first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@contextlib.contextmanager
def reporting(field: str, what: str, fix: str) -> Iterator[None]:
    """Turns what the system raises inside into a `RunFolderError`: the folder, `what` of it failed, why, the `fix`."""
    try:
        yield
    except RunFolderError:
        raise
    except FolderInUse as error:
        raise RunFolderError(f"{field} is in use by {error}. Wait for its end, or use another path.") from error
    except (OSError, ValueError, RecursionError) as error:  # a NUL byte in the path, a path of a thousand folders
        raise RunFolderError(f"{field}{what}: {reason(error)}. {fix}.") from error
