"""Writes and reads rounds as lines of JSON: values in JSON's own types, a file that grows by whole lines."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from declora.errors import RunFolderError
from declora.report.folder_errors import reason
from declora.store.disk import write_all

__all__ = ["METRICS", "Written", "append", "line_of", "plain", "read_metrics", "whole_lines"]

METRICS = "metrics.jsonl"
"""Name of the file with a line per round."""


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


def line_of(record: Mapping[str, object]) -> bytes:
    """Returns the line of one round, its end included."""
    return (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def append(path: Path, line: bytes, *, at: int) -> None:
    """Appends a line to a file of `at` bytes (one that is not there has none), whole or not at all.

    Raises:
        OSError: it could not be written, and the file is as before; or the file has another size.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    try:
        size = os.fstat(file).st_size
        if size != at:
            raise OSError(f"it has {size} bytes instead of the {at} that the run wrote")
        try:
            write_all(file, line)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


class Written:
    """What a file of lines holds.

    Attributes:
        lines: how many.
        bytes: how long they are together.
    """

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self.lines = self.bytes = 0
        self._digest = hashlib.sha256()
        for line in lines:
            self.add(line)

    def add(self, line: bytes) -> None:
        """Counts one line more."""
        self.lines += 1
        self.bytes += len(line)
        self._digest.update(line)

    def describe(self) -> dict[str, object]:
        """Returns the number of lines and their digest, by which a checkpoint knows the rounds that it counts on."""
        return {"lines": self.lines, "sha256": self._digest.hexdigest()}


def whole_lines(path: Path) -> list[bytes]:
    """Returns the lines of a file, their ends included, without a last one that has none; of no file, none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return [line for line in file if line.endswith(b"\n")]
    except FileNotFoundError:
        return []


def read_metrics(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Returns the rounds of a run folder (or of a `metrics.jsonl`) as a history; null becomes NaN.

    A run may be writing at the same time: a last line that is not complete is left out.
    """
    file = Path(path)
    file = file / METRICS if file.is_dir() else file
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(
            f"path={str(file)!r} cannot be read: {reason(error)}. Name the folder of a run."
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
