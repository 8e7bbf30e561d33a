"""Holds one data set, whatever it was read from: plain rows, what to call it, and what was guessed in reading it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import datasets
import pyarrow as pa

from declora.data.display import listed
from declora.errors import DataError, cut, shown

__all__ = ["Part", "check_names", "part_of_table"]


@dataclass(frozen=True)
class Part:
    """Holds one data set, what to call it in an error message, and what was guessed in reading it (whole sentences)."""

    where: str
    dataset: datasets.Dataset
    notes: tuple[str, ...] = ()

    def noted(self, note: str) -> "Part":
        """Returns the part with one more note."""
        return replace(self, notes=(*self.notes, note))


def check_names(where: str, columns: Iterable[str]) -> None:
    """Checks that columns can be told apart and have names that Arrow can hold.

    Raises:
        DataError: A name is there twice, or holds a NUL or half a surrogate pair.
    """
    names = Counter(iter(columns))  # of a mapping, its names
    if repeated := sorted(name for name, times in names.items() if times > 1):
        raise DataError(f"{where} has the columns {listed(repeated)} more than once. Give each column its own name.")
    if bad := next((name for name in names if re.search("[\0\ud800-\udfff]", name)), None):
        raise DataError(
            f"{where} has a column of the name {shown(bad)}, which is no text. Save it as UTF-8, with names of letters."
        )


def part_of_table(where: str, table: pa.Table, notes: Sequence[str] = ()) -> Part:
    """Returns the rows of an Arrow table as a part.

    Raises:
        DataError: There are no rows, a text is not UTF-8, or the table (or what its metadata says of it, as `datasets`
            writes it) is damaged.
    """
    check_names(where, table.column_names)
    if table.num_rows == 0:
        raise DataError(f"{where} has no rows, only columns {listed(table.column_names)}. Write at least one row.")
    try:
        table.validate(full=True)
        return Part(where, datasets.Dataset(table), tuple(notes))
    except Exception as error:  # of any kind where the metadata in a file is damaged
        raise DataError(
            f"{where} is damaged ({type(error).__name__}: {cut(error)}). Write it again from its source."
        ) from error
