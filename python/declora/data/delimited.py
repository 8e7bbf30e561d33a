"""Reads csv and tsv files: the separator that the header has, and rows of exactly as many fields as it names."""

import csv
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa

from declora.data.display import listed
from declora.data.parts import check_names
from declora.errors import DataError

__all__ = ["read_csv", "read_tsv"]

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_LONGEST_FIELD = 2**31 - 1  # what a C long holds everywhere
_field_limit = threading.Lock()


def read_csv(where: str, file: IO[str]) -> tuple[pa.Table, list[str]]:
    """Returns the rows of a csv file, every column of texts, and notes on how it was read.

    Fields are quoted as usual. The separator is the one that the header has: a comma, else a semicolon, tab or bar.

    Raises:
        DataError: The header can be read with several separators, or a row (its line is named) does not fit it.
    """
    header = file.readline()
    if re.fullmatch(r"\"?sep=.?\"?\s*", header, re.I):
        raise DataError(f"{where}, line 1 tells a spreadsheet the separator and names no columns. Remove that line.")
    file.seek(0)
    separator = _separator(where, header)
    # A space after each separator of the header belongs to the separator, and then does so in the rows, too.
    padded = all(name.startswith(" ") for name in _fields(header, separator)[1:]) and f"{separator} " in header
    with _fields_of_any_length():
        reader = csv.reader(file, strict=True, delimiter=separator, skipinitialspace=padded)
        try:
            table = _table(where, ((reader.line_num, row) for row in reader), separator)
        except csv.Error as error:
            raise DataError(
                f"{where}, line {reader.line_num}: {error}. Check the quotes there, or write the texts as jsonl."
            ) from error
    named = f"{_SEPARATORS[separator]} and a space" if padded else _SEPARATORS[separator]
    return table, [] if named == "comma" else [f"{where} is read with a {named} between columns, as its header has it."]


def read_tsv(where: str, file: IO[str]) -> tuple[pa.Table, list[str]]:
    """Returns the rows of a tsv file, every column of texts; a `"` is an ordinary character (the GLUE convention).

    Raises:
        DataError: The header has no tab but another separator, or a row (its line is named) does not fit it.
    """
    lines = (line.rstrip("\n") for line in file)
    rows = ((number, line.split("\t") if line else []) for number, line in enumerate(lines, start=1))
    return _table(where, rows, "\t"), []


def _separator(where: str, header: str) -> str:
    found = [separator for separator in _SEPARATORS if len(_fields(header, separator)) > 1]
    if len(found) > 1:
        named = " or a ".join(_SEPARATORS[separator] for separator in found)
        raise DataError(
            f"{where}, line 1: the header can be read with a {named} between columns. Put column names that hold "
            "one of them in quotes."
        )
    return found[0] if found else ","


def _fields(header: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=separator, strict=True), [])
    except csv.Error:  # with this separator the quotes are in the wrong place
        return []


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lifts the module's limit of 131,072 characters a field, which is one for the whole process."""
    with _field_limit:
        before = csv.field_size_limit(_LONGEST_FIELD)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _table(where: str, rows: Iterator[tuple[int, list[str]]], separator: str) -> pa.Table:
    """Builds the table of (line number, fields), the first of which is the header."""
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    if not any(header):
        raise DataError(f"{where} has no header line. Put the column names on line 1.")
    check_names(where, header)
    if separator == "\t" and len(header) == 1 and (other := next((s for s in ",;|" if s in header[0]), None)):
        raise DataError(
            f"{where}, line 1: there is no tab between columns, but a {_SEPARATORS[other]} ({listed(header)}). Name "
            "the file .csv, or separate its columns by tabs."
        )
    columns: list[list[str]] = [[] for _ in header]
    for line, fields in rows:
        if not fields and len(header) > 1:
            continue  # a blank line; with one column it is an empty text
        if len(fields or [""]) != len(header):
            raise DataError(
                f"{where}, line {line}: {len(fields)} fields, but the header names {len(header)} "
                f"({listed(header)}). The file may be truncated, or a text holds an unquoted separator."
            )
        for column, field in zip(columns, fields or [""], strict=True):
            column.append(field)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(header, columns, strict=True)})
