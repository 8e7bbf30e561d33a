"""The checkpoints of one run: the last two, each whole; the newest sound one is what a run goes on from."""

import contextlib
import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from declora.errors import RunFolderError
from declora.store import checkpoint as files
from declora.store import manifest, shard
from declora.store.checkpoint import Checkpoint
from declora.store.disk import sync_folder
from declora.store.shard import Shard
from declora.store.sound import UnsoundCheckpoint

__all__ = ["Elsewhere", "Store"]

Elsewhere: TypeAlias = Callable[[Shard, UnsoundCheckpoint], Mapping[str, NDArray[Any]] | None]
"""Returns the arrays of a shard from where its rank is, told why they cannot be read here; None: it is nowhere else.

Raises `UnsoundCheckpoint` where they cannot be read there, either.
"""

_KEPT = 2
_NEW, _OLD = "new", "old"
"""What is being written, and what is being removed; neither is ever read."""
_EVENT = re.compile(r"event-\d{8,18}", re.ASCII)
_FILES = (manifest.MANIFEST, *manifest.FILES)


class Store:
    """Keeps the last two checkpoints of a run in a folder.

    A checkpoint is written beside its place, synced file by file, its manifest last; then it gets its name, in one
    step. So whatever stops a process, the one before it is as it was. Of a run over several ranks, each has a store, in
    one folder or on a disk of its own: the others write shards, and rank 0 the checkpoint that names them.

    Args:
        folder: Where they are; made by the first `save`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def owns(path: str) -> bool:
        """Returns whether a path in the folder, with slashes, is of a name that a store gives."""
        folder, _, file = path.partition("/")
        if folder in (_NEW, _OLD) or shard.STAGE.fullmatch(folder) or shard.named(path):
            return True
        return _EVENT.fullmatch(folder) is not None and file in ("", *_FILES)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint and then removes all but the one before it, those of later events among them.

        Returns:
            Where it is.

        Raises:
            OSError: It cannot be written, and the ones before it are as they were; or it is there, and what is not
                needed any more cannot be removed.
            TypeError, ValueError: What is to be written has no form in JSON or safetensors.
        """
        stage, name = self.folder / _NEW, _name(checkpoint.event)
        self._make()
        try:
            self._remove(_NEW)
            stage.mkdir()
            files.write(stage, checkpoint)
            manifest.write(stage, checkpoint.shards)
            sync_folder(stage)
            self._remove(name)  # one that was not sound
            os.rename(stage, self.folder / name)
            sync_folder(self.folder)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)  # room for the rest of the run
            raise
        self._remove_others(checkpoint.event)
        return self.folder / name

    def save_shard(self, event: int, rank: int, arrays: Mapping[str, NDArray[Any]]) -> Shard:
        """Writes what a checkpoint is to have of another rank's clients; it counts once a manifest names it.

        Raises:
            OSError: It cannot be written.
            TypeError, ValueError: An array has no form in safetensors.
        """
        self._make()
        return shard.write(self.folder, event, rank, arrays)

    def read_shard(self, wanted: Shard) -> dict[str, NDArray[Any]]:
        """Returns the arrays of a shard.

        Raises:
            UnsoundCheckpoint: It is not there, or not as it was written; names rank and file.
        """
        return shard.read(self.folder, wanted)

    def shards(self) -> list[tuple[int, int, str]]:
        """Returns of which event and rank each shard is that is there, with its name, counted or not.

        Raises:
            OSError: The folder cannot be read.
        """
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return [(*found, name) for name in names if (found := shard.named(name)) is not None]

    def keep(self, events: Collection[int], rank: int = 0) -> None:
        """Removes shards that no checkpoint names any more.

        Args:
            events: Of the checkpoints that there are, on whatever disk. Later shards may be for one to come.
            rank: All of whose shards are either for one of these, or for nothing.

        Raises:
            OSError: One cannot be removed.
        """
        newest = max(events, default=-1)
        for event, of, name in self.shards():
            if event not in events and (event < newest or of == rank):
                (self.folder / name).unlink(missing_ok=True)  # another rank may remove it, too

    def load(
        self,
        run: str,
        check: Callable[[Checkpoint], None] = lambda found: None,
        elsewhere: Elsewhere | None = None,
    ) -> Checkpoint | None:
        """Returns the newest checkpoint that is sound, None where none was ever written; changes nothing.

        Args:
            run: Names the run: a checkpoint of another one is not sound.
            check: Raises `UnsoundCheckpoint` for one that does not fit what else there is of the run.
            elsewhere: Finds a shard that cannot be read here.

        Raises:
            RunFolderError: There are checkpoints, and none of them is sound; says why of each.
        """
        refused: list[str] = []
        for event in sorted(self.events(), reverse=True):
            try:
                found = self._read(run, event, elsewhere)
                check(found)
            except UnsoundCheckpoint as error:
                refused.append(f"{_name(event)}: {error}")
                continue
            instead = f"{_name(event)} is the checkpoint that is used, since a newer one cannot be:"
            notes = (f"{instead} {why}" for why in refused)
            return dataclasses.replace(found, notes=tuple(notes))
        if refused:
            raise RunFolderError(
                f"{str(self.folder)!r} has no checkpoint that can be used. {' '.join(refused)} Restore one from a "
                "copy, or start the run again."
            )
        return None

    def _read(self, run: str, event: int, elsewhere: Elsewhere | None) -> Checkpoint:
        folder = self.folder / _name(event)
        shards = manifest.check(folder, event)
        found = files.read(folder)
        if found.run != run:
            raise UnsoundCheckpoint(f"{files.ABOUT} says that it is another run's.")
        if found.event != event:
            raise UnsoundCheckpoint(f"{files.ABOUT} says that it is the one of event {found.event}.")
        others = [self._find(one, elsewhere) for one in shards]
        return dataclasses.replace(found, arrays=shard.joined(found.arrays, others), shards=shards)

    def _find(self, wanted: Shard, elsewhere: Elsewhere | None) -> Mapping[str, NDArray[Any]]:
        try:
            return self.read_shard(wanted)
        except UnsoundCheckpoint as error:
            if elsewhere is not None and (found := elsewhere(wanted, error)) is not None:
                return found
            raise UnsoundCheckpoint(
                f"{error} Copy it to {str(self.folder)!r} from where rank {wanted.rank} wrote it, or start as many "
                "ranks as then."
            ) from error

    def events(self) -> list[int]:
        """Returns the events of the checkpoints that there are, sound or not.

        Raises:
            OSError: The folder cannot be read.
        """
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        numbers = {name: int(name.removeprefix("event-")) for name in names if _EVENT.fullmatch(name)}
        return [event for name, event in numbers.items() if name == _name(event)]

    def _make(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(exist_ok=True)  # another rank may have come first
            sync_folder(self.folder.parent)

    def _remove_others(self, event: int) -> None:
        earlier = sorted(other for other in self.events() if other < event)
        kept = {event, *earlier[len(earlier) - _KEPT + 1 :]}
        try:
            for other in self.events():
                if other not in kept:
                    self._remove(_name(other))
            for name in os.listdir(self.folder):
                if shard.STAGE.fullmatch(name):  # of a rank that was stopped: all others have written theirs by now
                    self._remove(name)
            self.keep(kept)
        except OSError as error:
            raise OSError(error.errno, f"what is older cannot be removed, {error.strerror}") from error

    def _remove(self, name: str) -> None:
        """Removes a folder of the store, if it is there; it gives up its name first, in one step.

        Raises:
            OSError: It cannot be removed, or holds what the store did not write.
        """
        folder, old = self.folder / name, self.folder / _OLD
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(old)
        if not os.path.lexists(folder):
            return
        names = [""] if folder.is_symlink() or not folder.is_dir() else os.listdir(folder)
        if foreign := [file for file in names if not self.owns(f"{name}/{file}") or not file]:
            raise OSError(errno.ENOTEMPTY, f"{os.path.join(name, foreign[0])!r} is not declora's")
        os.rename(folder, old)
        shutil.rmtree(old)


def _name(event: int) -> str:
    return f"event-{event:08d}"
