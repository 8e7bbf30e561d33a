"""Writes the folder of one run: owned by it alone, never half written, never in the place of files of others."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import Self

from declora.errors import RunFolderError
from declora.report.belongings import (
    CHECKPOINTS,
    MARKER,
    PARTIAL,
    Belongings,
    find_foreign,
    new_beside,
    old_beside,
    place_of,
    remove_run,
)
from declora.report.claim import check_path, find_run, finish_swap
from declora.report.folder_errors import listed, out_field, reason, reporting
from declora.report.json_lines import Written, append, plain
from declora.report.lock import PRIVATE, FolderLock
from declora.store import Store
from declora.store.disk import sync_file, sync_folder, write_file

__all__ = ["RunFolder"]

_FIX = "Use another path"


class RunFolder:
    """Stands for a folder that one run owns, until it is closed or its process ends.

    A file appears under its name only when it is complete: it is written aside, synced, moved. `metrics.jsonl` and
    its like grow by one whole line per round. The folder keeps a list of all that it wrote, so that `overwrite` can
    tell a run's files from a user's, and removes only the former.

    An earlier run is replaced at the end: until then the new one is in a folder beside it, whose name ends with
    `.declora-new`, and the earlier one is as it was. `finish` puts the new one in its place, as does leaving a `with`
    block without an error; after an error both stay, and the next run with `overwrite` removes the unfinished one.

    Args:
        path: the folder; it and its parents are made. It may exist if it is empty.
        overwrite: replace an earlier run in `path`.
        resume: go on with the run that is in `path`, or was to replace it, as the process that wrote it left it.

    Attributes:
        root: `path`.
        work: where the run is while it goes on: `path`, or the folder beside it.

    Raises:
        RunFolderError: `check` refuses the path (with `resume`: there is no run), another run is writing there, or it
            cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False) -> None:
        self.root = place_of(Path(path)) if resume else Path(path)
        self._belongings = Belongings({MARKER})
        self._grown: dict[str, Written] = {}
        self._field = out_field(self.root)
        with reporting(self._field, " cannot be created", _FIX):
            self._place = Path(os.path.realpath(self.root))
            finish_swap(self._place)
            self._check(overwrite, resume)
            made = not self._place.exists()
            self._place.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = self._earlier_lock = FolderLock(self._place)
                self._take(overwrite, resume)
            except BaseException:
                if made:
                    with contextlib.suppress(OSError):
                        self._place.rmdir()
                raise

    @staticmethod
    def check(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Checks all that can be known before a run begins; nothing is changed.

        Raises:
            RunFolderError: the path is not an empty folder (with `overwrite`: nor an earlier run with nothing else in
                it, at any depth), or cannot be written.
        """
        check_path(path, overwrite=overwrite)

    @property
    def token(self) -> str:
        """By which other processes see that it is this folder, see `lock.token_of`."""
        return self._lock.token

    def __repr__(self) -> str:
        return f"RunFolder({str(self.root)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.close()

    def write_bytes(self, name: str, data: bytes, *, private: bool = False) -> Path:
        """Writes a file and returns its path; a reader sees the old content or the new one.

        Args:
            name: relative, with slashes, e.g. `"config.toml"`.
            data: its content.
            private: whether nobody but its owner may read it.
        """
        path = _inside(name)
        with self._writing(name):
            self._own([path])
            target = self.work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._replace(target, data, 0o600 if private else 0o666)
        return target

    def write_text(self, name: str, text: str) -> Path:
        """Writes a UTF-8 file like `write_bytes`; half of a surrogate pair is written as its escape."""
        return self.write_bytes(name, text.encode(errors="backslashreplace"))

    def write_json(self, name: str, obj: object) -> Path:
        """Writes `plain(obj)` as JSON and returns its path; a number that is not finite becomes null."""
        return self.write_text(name, json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write_folders(self, writers: Mapping[str, Callable[[Path], object]]) -> None:
        """Writes folders, each with all that is in it; each appears under its name when it is complete.

        Where one cannot be written, those before it are there all the same.

        Args:
            writers: by name (relative; at least one), what writes the folder that it is given. Of a folder that is
                there already, as where a run went on with more rounds, each file is replaced.
        """
        whole: dict[str, Path] = {}
        failure: RunFolderError | None = None
        names = [_inside(name) for name in writers]
        with self._writing(names[0]):
            aside = self._aside()
            for number, (name, write) in enumerate(zip(names, writers.values(), strict=True)):
                stage = aside / str(number)
                try:
                    write(stage)
                except Exception as error:  # whatever the library that writes it raises
                    shutil.rmtree(stage, ignore_errors=True)  # room for the list of what is whole
                    cause = error.__cause__ or error
                    failure = RunFolderError(f"{self._field}: {name!r} cannot be written: {reason(cause)}. {_FIX}.")
                    failure.__cause__ = error
                    break
                whole[name] = stage
            self._own(f"{path}/{file}" for path, stage in whole.items() for file in _files(stage))
            for path, stage in whole.items():
                _move(stage, self.work / path)
        if failure is not None:
            raise failure

    def adopt(self, name: str) -> Path:
        """Counts the files that a library keeps in the folder `name` as the run's own, and returns its path."""
        path = _inside(name)
        with self._writing(name):
            self._own(f"{path}/{file}" for file in _files(self.work / path))
        return self.work / path

    def append(self, name: str, line: bytes) -> None:
        """Appends one line to a file, whole or not at all; a reader sees it at once.

        Args:
            name: of a file that grows, `metrics.jsonl` or another.
            line: its end included.

        Raises:
            RunFolderError: the line could not be written (full disk, no permission) and the file is as before; or the
                file is not what the run wrote so far, as after its removal. `write_lines` writes it anew.
        """
        grown = self._grown.setdefault(name, Written())
        with self._writing(name):
            self._own([name])
            append(self.work / name, line, at=grown.bytes)
        grown.add(line)

    def write_lines(self, name: str, lines: Sequence[bytes]) -> None:
        """Writes a file with all lines so far; it grows from there."""
        self.write_bytes(name, b"".join(lines))
        self._grown[name] = Written(lines)

    def describe_lines(self, name: str) -> dict[str, object]:
        """Returns how many lines a file that grows has, and their digest."""
        return self._grown.get(name, Written()).describe()

    def sync(self, name: str) -> None:
        """Makes sure that a file, or a folder with the files in it, is on the disk."""
        path = self.work / _inside(name)
        with self._writing(name):
            for file in [path / inner for inner in _files(path)] if path.is_dir() else [path]:
                sync_file(file)
                sync_folder(file.parent)
            sync_folder(self.work)

    def store(self, run: str) -> Store:
        """Returns the checkpoints of the run that is called `run`, which are the folder's own."""
        with self._writing(CHECKPOINTS):
            if self._belongings.run != run:
                self._belongings.run = run
                self._write_marker()
        return Store(self.work / CHECKPOINTS)

    def inner(self, name: str, *, resume: bool = False) -> "RunFolder":
        """Returns the run folder `name` in this one, which is a run of its own for whom reads or replaces it.

        Args:
            name: relative, with slashes.
            resume: go on with the run that is there; where there is none yet, begin it.
        """
        path = _inside(name)
        with self._writing(name):
            if path not in self._belongings.runs:
                self._belongings.runs.add(path)
                self._write_marker()
        return RunFolder(self.work / path, resume=resume and Belongings.read(self.work / path) is not None)

    def finish(self) -> None:
        """Ends the run: it takes the place of the earlier one, if there is one.

        Raises:
            RunFolderError: something that the run wrote is not there any more, or the earlier run cannot go: a user
                put files there meanwhile, or one of its inner runs is being replaced. Then all stays where it is.
        """
        with reporting(self._field, " cannot be completed", f"The run is in {str(self.work)!r}"):
            self._hold()
            if missing := self._missing():
                raise RunFolderError(f"{self._field} lacks {listed(missing)}, removed while the run was going.")
            if self.work != self._place:
                self._swap()
                self._remove_earlier()
        self.close()

    def close(self) -> None:
        """Gives the folder up as it is; a second call does nothing."""
        if self._lock.holds(self.work):
            shutil.rmtree(self.work / PARTIAL, ignore_errors=True)
        self._lock.release(self.work)
        self._earlier_lock.release(self._place)

    def _check(self, overwrite: bool, resume: bool) -> None:
        if resume:
            find_run(self._place, unfinished=True)
        else:
            self.check(self.root, overwrite=overwrite)

    def _take(self, overwrite: bool, resume: bool) -> None:
        try:
            self._check(overwrite, resume)  # it may be another run's since
            self.work = self._reopen() if resume else self._begin()
            self._write_marker()
        except BaseException:
            self._earlier_lock.release(self._place)
            raise

    def _begin(self) -> Path:
        """Returns where this run is written: in its place, or beside the earlier run, which stays for now."""
        new = new_beside(self._place)
        if Belongings.read(new) is not None:
            remove_run(new)  # a run that did not get to its end
        if Belongings.read(self._place) is None:
            return self._place
        new.mkdir(exist_ok=True)
        self._lock = FolderLock(new)
        return new

    def _reopen(self) -> Path:
        """Returns where the run is that goes on, and forgets what it was writing when it was stopped."""
        work = find_run(self._place, unfinished=True)
        if work != self._place:
            self._lock = FolderLock(work)
        self._belongings = Belongings.read(work) or self._belongings
        shutil.rmtree(work / PARTIAL, ignore_errors=True)
        return work

    def _swap(self) -> None:
        place, old = self._place, old_beside(self._place)
        if hasattr(os, "sync"):
            os.sync()  # the earlier run goes for good: the new one, with files of libraries, must be on the disk
        with contextlib.ExitStack() as locks:
            if place.exists():
                if not self._earlier_lock.holds(place):
                    raise RunFolderError(f"{self._field} was made anew by another run while this one was going.")
                if foreign := find_foreign(place):
                    raise RunFolderError(f"{self._field} holds {listed(foreign)}, put there while the run was going.")
                earlier = Belongings.read(place) or Belongings()
                for run in earlier.inner_runs(place):
                    locks.callback(FolderLock(place / run).release, old / run)
                os.rename(place, old)
            os.rename(self.work, place)
            self.work = place

    def _remove_earlier(self) -> None:
        old = old_beside(self._place)
        with reporting(self._field, " is whole, but the earlier run cannot be removed", f"Remove {str(old)!r}"):
            self._earlier_lock.release(old)
            if old.exists():
                remove_run(old)

    def _hold(self) -> None:
        """Makes sure that the folder is this run's; one that was removed is made again.

        Raises:
            RunFolderError: another run, or a user, has it now.
        """
        if self._lock.holds(self.work):
            return
        self._lock.release(self.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.work)
        found = Belongings.read(self.work)
        if found is None and not find_foreign(self.work):
            self._write_marker()
        elif found != self._belongings:
            self._lock.release(self.work)
            raise RunFolderError(f"{self._field} was removed while the run was going, and holds other files now.")

    def _missing(self) -> list[str]:
        names = [*self._belongings.files, *(f"{run}/{MARKER}" for run in self._belongings.runs)]
        return sorted(name for name in names if not (self.work / name).exists())

    def _own(self, paths: Iterable[str]) -> None:
        """Counts files as the run's own, before they are there."""
        if new := set(paths) - self._belongings.files:
            self._belongings.files |= new
            self._write_marker()

    def _write_marker(self) -> None:
        self._replace(self.work / MARKER, self._belongings.dump())

    def _replace(self, target: Path, data: bytes, mode: int = 0o666) -> None:
        whole = self._aside() / "file"
        try:
            write_file(whole, data, mode=mode)
            os.replace(whole, target)
        except BaseException:
            whole.unlink(missing_ok=True)
            raise

    def _aside(self) -> Path:
        """Returns the folder where something is written before it is moved to its place."""
        aside = self.work / PARTIAL
        aside.mkdir(exist_ok=True)
        return aside

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with reporting(self._field, f": {name!r} cannot be written", _FIX):
            self._hold()
            yield


def _files(folder: Path) -> list[str]:
    """Returns the paths in a folder of the files at any depth."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _move(stage: Path, target: Path) -> None:
    """Moves a folder to its place; where there is one of that name, file by file, so that a user's own stay."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.rename(stage, target)
        return
    for file in _files(stage):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage / file, target / file)
    shutil.rmtree(stage)


def _inside(name: str) -> str:
    """Returns a name with slashes, after checking that it is of a file in the folder."""
    path = PurePath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] in (MARKER, PRIVATE):
        raise RunFolderError(f"name={name!r} is not a file of the run folder: use a relative path inside it.")
    return path.as_posix()
