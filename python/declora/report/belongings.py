"""Tells declora's files in a run folder from those of others, by the list that a run keeps of its own."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from declora.report.lock import LOCK, PRIVATE, FolderLock
from declora.store import Store

__all__ = [
    "CHECKPOINTS",
    "MARKER",
    "OWN",
    "PARTIAL",
    "Belongings",
    "find_foreign",
    "new_beside",
    "old_beside",
    "place_of",
    "remove_run",
]

MARKER = "declora-run.json"
"""Names the folder as declora's and lists what declora wrote into it."""
PARTIAL = f"{PRIVATE}/partial"
"""What is being written, until it is whole and moved to its place."""
CHECKPOINTS = "checkpoints"
"""The folder of the checkpoints, see `declora.store`."""
_FORMAT, _VERSION = "declora-run", 2
_NEW, _OLD = ".declora-new", ".declora-old"
OWN = (PRIVATE, _NEW, _OLD)
"""How the names of folders end that are there for a while, in a run's folder or beside it."""


def new_beside(folder: Path) -> Path:
    """Returns where a run is written that will take the place of the one in `folder`."""
    return folder.with_name(folder.name + _NEW)


def old_beside(folder: Path) -> Path:
    """Returns where the earlier run is for the moment in which the new one takes its place."""
    return folder.with_name(folder.name + _OLD)


def place_of(folder: Path) -> Path:
    """Returns where the run that is written in `folder` will be at its end."""
    return folder.with_name(folder.name.removesuffix(_NEW)) if folder.name.removesuffix(_NEW) else folder


@dataclass
class Belongings:
    """Lists what a run wrote into its folder, as the marker holds it.

    Attributes:
        files: paths in the folder, with slashes, at any depth; of a run's folder, the marker itself among them.
        runs: names of the folders in it that are run folders themselves, each with its own marker.
        run: names the run where it keeps checkpoints: what is in their folder under a name that a `Store` gives is its
            own, too. None where it keeps none.
    """

    files: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    run: str | None = None

    @staticmethod
    def read(folder: Path) -> "Belongings | None":
        """Returns what the marker of `folder` lists, None where there is none of declora's."""
        try:
            marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            if marker["format"] != _FORMAT:
                return None
            # Version 1 listed the names at the top alone: what is in its folders counts as not listed.
            return Belongings({MARKER, *marker["files"]}, set(marker.get("runs", ())), marker.get("run"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def dump(self) -> bytes:
        """Returns the content of the marker."""
        marker = {"format": _FORMAT, "version": _VERSION, "runs": sorted(self.runs), "files": sorted(self.files)}
        run = {} if self.run is None else {"run": self.run}
        return (json.dumps(marker | run, indent=1) + "\n").encode()

    def holds(self, path: str) -> bool:
        """Returns whether a path in the folder is declora's; that of an empty folder ends with a slash."""
        if path in self.files or path in (f"{PRIVATE}/", LOCK, PARTIAL) or path.startswith(f"{PARTIAL}/"):
            return True
        if self.run is not None and path.startswith(f"{CHECKPOINTS}/"):
            return path == f"{CHECKPOINTS}/" or Store.owns(path.removeprefix(f"{CHECKPOINTS}/"))
        return path.endswith("/") and any(file.startswith(path) for file in self.files)

    def inner_runs(self, folder: Path) -> list[str]:
        """Returns the names of the run folders in `folder`, and of what an interrupted run left beside one."""
        names = [f"{run}{ending}" for run in sorted(self.runs) for ending in ("", _NEW, _OLD)]
        return [name for name in names if (folder / name).is_dir() and not (folder / name).is_symlink()]


def find_foreign(folder: Path) -> list[str]:
    """Returns the paths of what lies in `folder`, at any depth, and was not written by declora, sorted.

    Of a folder without a marker that is everything but what an interrupted start may have left.
    """
    belongings = Belongings.read(folder) or Belongings()
    inner = belongings.inner_runs(folder)
    found = [path for path in _listing(folder, without=inner) if not belongings.holds(path)]
    return sorted(found + [f"{run}/{path}" for run in inner for path in find_foreign(folder / run)])


def remove_run(folder: Path) -> None:
    """Removes what declora wrote into `folder`, and the folder itself if nothing else is in it.

    Raises:
        FolderInUse: a run is writing there, or into an inner run's folder.
        OSError: something cannot be removed.
    """
    lock = FolderLock(folder)
    try:
        belongings = Belongings.read(folder) or Belongings()
        inner = belongings.inner_runs(folder)
        for run in inner:
            remove_run(folder / run)
        ours = [path for path in _listing(folder, without=inner) if belongings.holds(path)]
        # The marker goes last, so that an interrupted removal can be taken up again.
        _remove(folder, [path for path in ours if path not in (MARKER, LOCK)])
        if MARKER in ours and not find_foreign(folder):
            (folder / MARKER).unlink()
    finally:
        lock.release(folder)
    _remove_if_empty(folder)


def _remove(folder: Path, paths: Sequence[str]) -> None:
    """Removes files, and then the folders that they were in, if nothing is left there."""
    for path in paths:
        if not path.endswith("/"):
            (folder / path).unlink()
    homes = {home for path in paths for home in (Path(path), *Path(path).parents) if (folder / home).is_dir()}
    for home in sorted(homes - {Path(), Path(PRIVATE)}, key=lambda home: len(home.parts), reverse=True):
        _remove_if_empty(folder / home)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _listing(folder: Path, *, without: Sequence[str] = ()) -> Iterator[str]:
    """Yields every file, link and empty folder below `folder`, with slashes; what is empty ends with one."""

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and (here / name).as_posix() not in without]
        yield from ((here / name).as_posix() for name in [*files, *links])
        if here.parts and not any(Path(place).iterdir()):
            yield f"{here.as_posix()}/"
