"""One data file to one `datasets.Dataset`: csv, tsv, json, jsonl and parquet, plain or gzipped.

The files are read here, not through `datasets.load_dataset`: that one converts every file to an Arrow copy in
the home directory, keyed by path and modification time, so a file rewritten within the clock's resolution
could give the old rows. Reading also names the line at fault, and csv texts stay texts (`"007"`, `"NA"` and
`"null"` are ordinary strings).
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from declora.errors import DataError

__all__ = ["FORMATS", "format_of", "read_file"]


def format_of(path: Path) -> str | None:
    """Returns the format that a file name promises (`"csv"`, ...), or None if it promises none of `FORMATS`."""
    name = path.name.lower()
    format_name = name.removesuffix(".gz").rpartition(".")[2]
    known = format_name in FORMATS and not (format_name == "parquet" and name.endswith(".gz"))
    return format_name if known else None


def read_file(path: Path) -> datasets.Dataset:
    """Reads one file into memory.

    csv and tsv need a header line and give string columns. csv is quoted as usual; tsv is not quoted at all
    (the GLUE convention: a `"` is an ordinary character).

    Raises:
        DataError: The file is missing, empty, truncated or malformed, or of an unknown format.
    """
    format_name = format_of(path)
    if not path.exists():
        raise DataError(f"File {path} does not exist. Check the path (working directory: {Path.cwd()}).")
    if format_name is None:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise DataError(f"File {path} has no known format. Known endings: {known}; all but .parquet also as .gz.")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"File {path} is empty (0 bytes). Write it again.")
        table = FORMATS[format_name](path)
    except EOFError as error:
        raise DataError(f"File {path} is truncated: {error}. Copy or download it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"File {path} is not intact gzip: {error}. Copy or download it again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"File {path} is not UTF-8 text ({error.reason}). Convert it to UTF-8.") from error
    except OSError as error:
        raise DataError(f"File {path} cannot be read: {error}.") from error
    if table.num_rows == 0:
        raise DataError(f"File {path} has no rows, only columns {table.column_names}. Write at least one row.")
    return datasets.Dataset(table)


def _open(path: Path, newline: str | None = None) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _read_csv(path: Path) -> pa.Table:
    with _open(path, newline="") as file:
        reader = csv.reader(file, strict=True)
        rows = ((reader.line_num, row) for row in reader)
        try:
            return _from_rows(path, rows)
        except csv.Error as error:
            raise DataError(
                f"File {path}, line {reader.line_num}: {error}. Check the quotes there, or write the texts as jsonl."
            ) from error


def _read_tsv(path: Path) -> pa.Table:
    with _open(path) as file:
        lines = (line.rstrip("\n") for line in file)
        return _from_rows(path, ((i, line.split("\t") if line else []) for i, line in enumerate(lines, start=1)))


def _from_rows(path: Path, rows: Iterator[tuple[int, list[str]]]) -> pa.Table:
    """Builds the table of (line number, fields), the first of which is the header."""
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"File {path} has no header line. Put the column names on line 1.")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"File {path} has the columns {repeated} more than once. Give each column its own name.")
    columns: list[list[str]] = [[] for _ in header]
    for line, fields in rows:
        if not fields and len(header) > 1:
            continue  # a blank line; with one column it is an empty text
        if len(fields or [""]) != len(header):
            raise DataError(
                f"File {path}, line {line}: {len(fields)} fields, but the header names {len(header)} "
                f"({header}). The file may be truncated, or a text holds an unquoted separator."
            )
        for column, field in zip(columns, fields or [""], strict=True):
            column.append(field)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(header, columns, strict=True)})


def _read_json(path: Path) -> pa.Table:
    with _open(path) as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        file.seek(0)
        rows = _json_array(path, file) if start == "[" else list(_json_lines(path, file))
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"File {path}: column {name!r} mixes types ({error}). Use one type per column.") from error
    return pa.table(columns)


def _json_lines(path: Path, file: IO[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield _json_object(path, json.loads(line), f"line {number}")
            except json.JSONDecodeError as error:
                raise DataError(
                    f"File {path}, line {number} is not JSON ({error}). Write one object a line, or one list "
                    "of objects."
                ) from error


def _json_array(path: Path, file: IO[str]) -> list[dict[str, Any]]:
    try:
        return [_json_object(path, row, f"item {i}") for i, row in enumerate(json.load(file))]
    except json.JSONDecodeError as error:
        raise DataError(f"File {path} is not JSON ({error}). It may be truncated.") from error


def _json_object(path: Path, row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(
            f"File {path}, {place} is {row!r:.60}, not an object with named columns such as {{'text': ...}}."
        )
    return row


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise DataError(f"File {path} is not intact parquet: {error}. Copy or download it again.") from error


FORMATS: dict[str, Callable[[Path], pa.Table]] = {
    "csv": _read_csv,
    "json": _read_json,
    "jsonl": _read_json,
    "parquet": _read_parquet,
    "tsv": _read_tsv,
}
"""The reader of each format, by file name ending."""
