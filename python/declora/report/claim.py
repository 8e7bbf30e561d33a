"""Decides whether a path may become the folder of a run, and finds what an interrupted run left there."""

import os
from pathlib import Path

from declora.errors import RunFolderError, shown
from declora.report.belongings import Belongings, find_foreign, new_beside, old_beside, place_of, remove_run
from declora.report.folder_errors import listed, out_field, reporting
from declora.report.lock import FolderLock

__all__ = ["check_path", "find_run", "finish_swap"]


def check_path(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Checks all that can be known of `path` before a run begins; changes nothing.

    Raises:
        RunFolderError: see `RunFolder.check`.
    """
    field = out_field(path)
    with reporting(field, " cannot be created", "Use another path"):
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_dir():
            raise RunFolderError(f"{field} is a file. Use another path.")
        nearest = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
        if not nearest.is_dir():
            raise RunFolderError(f"{field} cannot be created: {str(nearest)!r} is a file. Use another path.")
        _check_writable(field, nearest)
        foreign = find_foreign(place) if place.exists() else []
        if not place.exists() or (Belongings.read(place) is None and not foreign):
            return
        if Belongings.read(place) is None:
            raise RunFolderError(f"{field} holds files that declora did not write. Use another path.")
        if not overwrite:
            resume = (
                ""
                if (Belongings.read(place) or Belongings()).run is None
                else f"Go on with it: declora resume {path}. "
            )
            raise RunFolderError(
                f"{field} holds a run. {resume}Replace it with overwrite=True (--overwrite), or use another path."
            )
        for beside in (new_beside(place), old_beside(place)):
            foreign += [f"../{beside.name}/{name}" for name in (find_foreign(beside) if beside.exists() else [])]
        if foreign:
            raise RunFolderError(
                f"{field} holds {listed(foreign)}: declora did not write that and will not delete it. Move it away "
                "or use another path."
            )
        if os.path.ismount(place) or _is_working_in(place):
            what = "the root of a file system" if os.path.ismount(place) else "where this process works"
            raise RunFolderError(f"{field} is {what} and cannot be replaced. Use a folder in it.")
        _check_writable(field, place.parent)


def find_run(path: str | os.PathLike[str], *, unfinished: bool = False) -> Path:
    """Returns the folder of the run in `path`; with `unfinished`, that of one that was to replace it, if there is one.

    Raises:
        RunFolderError: there is none.
    """
    if not isinstance(path, str | os.PathLike):
        raise RunFolderError(f"path={shown(path)} is no path. Name the folder of a run.")
    field = f"path={os.fspath(path)!r}"
    with reporting(field, " cannot be read", "Name the folder of a run"):
        place = Path(os.path.realpath(path))
        places = (new_beside(place_of(place)), place_of(place)) if unfinished else (place,)
        found = next((run for run in places if Belongings.read(run) is not None), None)
        if found is None:
            raise RunFolderError(f"{field} holds no run. Name the folder that `out` named.")
        return found


def finish_swap(place: Path) -> None:
    """Finishes what a run was interrupted in: taking the place of an earlier one, which is the last thing it does.

    Raises:
        FolderInUse: it is still at it.
        OSError: it cannot be done.
    """
    if not place.name:  # "/" has nothing beside it
        return
    new, old = new_beside(place), old_beside(place)
    if not old.is_dir() or (Belongings.read(old) is None and find_foreign(old)):
        return
    if not place.exists():
        lock = FolderLock(old)
        try:
            os.rename(new if new.exists() else old, place)
        finally:
            lock.release(old if old.exists() else place)
    if old.exists():
        remove_run(old)


def _is_working_in(place: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(place)
    except FileNotFoundError:  # it was removed
        return False


def _check_writable(field: str, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunFolderError(f"{field}: {str(folder)!r} is not writable. Change its permissions or use another path.")
