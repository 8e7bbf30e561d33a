"""Reads json and jsonl files: one object a line, or one list of objects."""

import json
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from declora.data.tables import table_of_rows
from declora.errors import DataError, cut, shown

__all__ = ["read_json"]


def read_json(where: str, file: IO[str]) -> tuple[pa.Table, list[str]]:
    """Returns the rows of the file, and notes on what was repaired in them.

    Raises:
        DataError: What it holds is not JSON, is no list of objects, or does not fit in columns; the line or item is
            named.
    """
    start = file.read(1)
    while start.isspace():
        start = file.read(1)
    file.seek(0)
    numbered = list(_items(where, file.read()) if start == "[" else _lines(where, file))
    return table_of_rows(where, [row for _, row in numbered], lambda row: numbered[row][0])


def _lines(where: str, file: IO[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            place = f"line {number}"
            value = _parsed(line, f"{where}, {place}", "Write one object a line, or one list of objects.")
            yield place, _object(where, value, place)


def _items(where: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for i, item in enumerate(_parsed(text, where, "It may be truncated.")):
        yield f"item {i}", _object(where, item, f"item {i}")


def _parsed(text: str, where: str, fix: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise DataError(f"{where} is not JSON that can be read: it is nested too deeply. {fix}") from error
    except ValueError as error:  # numbers of thousands of digits are no JSONDecodeError
        raise DataError(f"{where} is not JSON ({cut(error)}). {fix}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object of these pairs, in which no name may be twice: Python's own reader keeps the last one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shown(twice)} is twice in one object")
    return found


def _object(where: str, row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}, {place} is {shown(row)}, not an object with named columns such as {{'text': ...}}.")
    return row
