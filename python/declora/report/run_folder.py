"""The folder of one run: made once, never half written, never in the place of files that are not ours."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from declora.errors import RunFolderError

__all__ = ["MARKER", "METRICS", "RunFolder", "plain", "read_metrics"]

MARKER = "declora-run.json"
"""Names the folder as declora's and lists what declora wrote into it."""
METRICS = "metrics.jsonl"
_FORMAT = "declora-run"
_TEMPORARY = ".declora-"


class RunFolder:
    """A folder that one run owns.

    A file appears under its name only when it is complete: it is written beside its place, synced, renamed.
    `metrics.jsonl` grows by one whole line per round. The folder keeps a list of what it wrote, so that
    `overwrite` can tell a run's files from a user's, and deletes only the former.

    Args:
        path: the folder; it and its parents are made. It may exist if it is empty.
        overwrite: replace an earlier run in `path`.

    Raises:
        RunFolderError: the path is not an empty folder (with `overwrite`: nor an earlier run), or cannot be
            written. A refusal changes nothing.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.root = Path(path)
        self._names: set[str] = set()
        try:
            self._claim(overwrite)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(f"{self._field} cannot be created: {_reason(error)}. Use another path.") from error

    def __repr__(self) -> str:
        return f"RunFolder({str(self.root)!r})"

    def path(self, name: str) -> Path:
        """Returns where the file or folder `name` belongs, makes its parents, and counts it as the run's own.

        Args:
            name: relative, e.g. `"config.toml"` or `"adapters/average"`.
        """
        parts = PurePath(name).parts
        if not parts or PurePath(name).is_absolute() or ".." in parts or parts[0] == MARKER:
            raise RunFolderError(f"name={name!r} is not a file of the run folder: use a relative path inside it.")
        target = self.root / name
        with self._reporting(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            if parts[0] not in self._names:
                self._names.add(parts[0])
                self._write_marker()
        return target

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Writes a file and returns its path; a reader sees the old content or the new one."""
        target = self.path(name)
        with self._reporting(name):
            _replace(target, data)
        return target

    def write_text(self, name: str, text: str) -> Path:
        """Writes a UTF-8 file like `write_bytes`."""
        return self.write_bytes(name, text.encode())

    def write_json(self, name: str, obj: object) -> Path:
        """Writes `plain(obj)` as JSON and returns its path; a number that is not finite becomes null."""
        return self.write_text(name, json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Appends one line to `metrics.jsonl`, whole or not at all; a reader sees it at once.

        Raises:
            RunFolderError: the line could not be written (disk full, no permission); the file is as before.
        """
        line = (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
        target = self.path(METRICS)
        with self._reporting(METRICS):
            file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            try:
                _append(file, line)
            finally:
                os.close(file)

    @property
    def _field(self) -> str:
        return f"out={str(self.root)!r}"

    def _claim(self, overwrite: bool) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise RunFolderError(f"{self._field} is a file. Use another path.")
        self.root.mkdir(parents=True, exist_ok=True)
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise RunFolderError(f"{self._field} is not writable. Change its permissions or use another path.")
        if any(self.root.iterdir()):
            self._clear(overwrite)
        self._write_marker()

    def _clear(self, overwrite: bool) -> None:
        ours = _names_in_marker(self.root)
        if ours is None:
            raise RunFolderError(f"{self._field} holds files that declora did not write. Use another path.")
        if not overwrite:
            raise RunFolderError(f"{self._field} holds a run. Replace it with --overwrite, or use another path.")
        entries = [entry for entry in self.root.iterdir() if entry.name != MARKER]
        foreign = sorted(e.name for e in entries if e.name not in ours and not e.name.startswith(_TEMPORARY))
        if foreign:
            names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise RunFolderError(
                f"{self._field} holds {names}: declora did not write that and will not delete it. "
                "Move it away or use another path."
            )
        # The marker goes last (it is overwritten), so that an interrupted removal can be taken up again.
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _write_marker(self) -> None:
        marker = {"format": _FORMAT, "version": 1, "files": sorted(self._names)}
        _replace(self.root / MARKER, (json.dumps(marker, indent=2) + "\n").encode())

    @contextlib.contextmanager
    def _reporting(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(
                f"{self._field}: {name!r} cannot be written: {_reason(error)}. Use another path."
            ) from error


def read_metrics(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Returns the rounds of a run folder (or of a `metrics.jsonl`) as a history; null becomes NaN.

    A run may be writing at the same time: a last line that is not complete is left out.
    """
    file = Path(path)
    file = file / METRICS if file.is_dir() else file
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise RunFolderError(
            f"path={str(file)!r} cannot be read: {_reason(error)}. Name the folder of a run."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise RunFolderError(f"path={str(file)!r}: line {number} is not JSON: {error}. Remove the line.") from error
    return pd.DataFrame(rows)


def plain(value: object) -> object:
    """Returns `value` in the types of JSON: numpy and pandas values as numbers and lists, paths as text.

    NaN and the infinities become None, which JSON can say; keys become text.

    Raises:
        TypeError: a value has no plain form.
    """
    if value is None or value is pd.NA or isinstance(value, str | bool | int):
        return None if value is pd.NA else value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) has no form in JSON: pass numbers, text, lists or mappings.")


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f"{_TEMPORARY}{os.getpid()}-{target.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _append(file: int, line: bytes) -> None:
    size = os.fstat(file).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        os.ftruncate(file, size)
        raise


def _names_in_marker(root: Path) -> set[str] | None:
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
        return set(marker["files"]) if marker["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
