"""Reads one data file as one part: csv, tsv, json, jsonl, txt and parquet, plain or gzipped.

The files are read here, not through `datasets.load_dataset`: that one converts every file to an Arrow copy in
the home directory, keyed by path and modification time, so a file rewritten within the clock's resolution
could give the old rows. Reading also names the line at fault, and csv texts stay texts (`"007"`, `"NA"` and
`"null"` are ordinary strings).
"""

import functools
import gzip
import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from declora.data.delimited import read_csv, read_tsv
from declora.data.json_rows import read_json
from declora.data.parts import Part, part_of_table
from declora.errors import DataError, cut

__all__ = ["FORMATS", "format_of", "read_file"]


def format_of(path: Path) -> str | None:
    """Returns the format that a file name promises (`"csv"`, ...), or None if it promises none of `FORMATS`."""
    name = path.name.lower()
    format_name = name.removesuffix(".gz").rpartition(".")[2]
    known = format_name in FORMATS and not (format_name == "parquet" and name.endswith(".gz"))
    return format_name if known else None


def read_file(path: Path) -> Part:
    """Reads one file into memory.

    csv and tsv need a header line and give string columns. csv is quoted as usual; tsv is not quoted at all
    (the GLUE convention: a `"` is an ordinary character). txt is one text a line.

    Raises:
        DataError: The file is missing, empty, truncated or malformed, or of an unknown format.
    """
    format_name, where = format_of(path), f"File {cut(path)}"
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError(f"{where} is a folder or device, not a file. Give the path of a file.")
        if format_name is None:
            known = ", ".join(f".{name}" for name in FORMATS)
            raise DataError(f"{where} has no known format. Known endings: {known}; all but .parquet also as .gz.")
        if size == 0:
            raise DataError(f"{where} is empty (0 bytes). Write it again.")
        table, notes = FORMATS[format_name](where, path)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DataError(f"{where} is a link to {cut(os.readlink(path))}, which does not exist.") from error
        raise DataError(f"{where} does not exist. Check the path (working directory: {Path.cwd()}).") from error
    except EOFError as error:
        raise DataError(f"{where} is truncated: {error}. Copy or download it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{where} is not intact gzip: {cut(error)}. Copy or download it again.") from error
    except OSError as error:
        raise DataError(f"{where} cannot be read: {cut(error.strerror or error)}.") from error
    return part_of_table(where, table, notes)


def _read_txt(where: str, file: IO[str]) -> tuple[pa.Table, list[str]]:
    """Returns one text a line, as the text loader of `datasets` does; blank lines are no texts."""
    lines = [line.rstrip("\n") for line in file]
    texts = [line for line in lines if line.strip()]
    blank = f" (blank lines left out: {len(lines) - len(texts)})" if len(texts) < len(lines) else ""
    return pa.table({"text": pa.array(texts, pa.string())}), [f"{where} is read as one text a line{blank}."]


def _read_parquet(where: str, path: Path) -> tuple[pa.Table, list[str]]:
    try:
        return pq.ParquetFile(path).read(), []
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where} is not intact parquet: {cut(error)}. Copy or download it again.") from error


def _read_text(
    read: Callable[[str, IO[str]], tuple[pa.Table, list[str]]], newline: str | None, where: str, path: Path
) -> tuple[pa.Table, list[str]]:
    # All of it first: a damaged gzip may show at its end only, and its text before as anything.
    content = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    try:
        with io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=newline) as file:
            return read(where, file)
    except UnicodeDecodeError as error:
        line = next(number for number, line in enumerate(io.BytesIO(content), start=1) if not _is_utf8(line))
        raise DataError(f"{where}, line {line} is not UTF-8 text ({error.reason}). Convert it to UTF-8.") from error


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


FORMATS: dict[str, Callable[[str, Path], tuple[pa.Table, list[str]]]] = {
    "csv": functools.partial(_read_text, read_csv, ""),
    "json": functools.partial(_read_text, read_json, None),
    "jsonl": functools.partial(_read_text, read_json, None),
    "parquet": _read_parquet,
    "tsv": functools.partial(_read_text, read_tsv, None),
    "txt": functools.partial(_read_text, _read_txt, None),
}
"""The reader of each format, by file name ending."""
