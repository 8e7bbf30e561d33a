"""Makes an Arrow table of rows of Python values: what JSON can say and Arrow cannot is repaired or refused by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from declora.data.parts import check_names
from declora.errors import DataError, cut, shown

__all__ = ["table_of_columns", "table_of_rows"]


def table_of_rows(
    where: str, rows: Sequence[Mapping[str, Any]], place: Callable[[int], str]
) -> tuple[pa.Table, list[str]]:
    """Returns the rows as a table with null where a row lacks a column, and notes; see `table_of_columns`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table_of_columns(where, {name: [row.get(name) for row in rows] for name in names}, place)


def table_of_columns(
    where: str, columns: Mapping[str, list[Any]], place: Callable[[int], str]
) -> tuple[pa.Table, list[str]]:
    """Returns columns of Python values as a table, and what was repaired (whole sentences).

    Half a surrogate pair (a text cut within an emoji) is read as U+FFFD, the sign for what is no character.

    Args:
        where: What to call the data in a message.
        columns: Equally many values each, by name.
        place: Returns what to call the row of an index, such as "line 3".

    Raises:
        DataError: A column mixes types or holds a number beyond 64 bits; row and column are named.
    """
    check_names(where, columns)
    notes: list[str] = []
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = _converted(where, name, values, place)
        except UnicodeEncodeError:
            repaired = [_repaired(value) for value in values]
            changed = sum(new != old for new, old in zip(repaired, values, strict=True))
            notes.append(
                f"{where}: {changed} values of column {name!r} hold half a surrogate pair, which is read as U+FFFD."
            )
            arrays[name] = _converted(where, name, repaired, place)
    return pa.table(arrays), notes


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except OverflowError:  # Arrow looks for signed integers only
        return pa.array(values, pa.uint64())


def _converted(where: str, name: str, values: list[Any], place: Callable[[int], str]) -> pa.Array:
    """Returns the array, or says which value is in the way; lets errors of half a surrogate pair through."""
    try:
        return _array(values)
    except UnicodeEncodeError:
        raise
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if (huge := next((row for row, value in enumerate(values) if _is_huge(value)), None)) is not None:
            raise DataError(
                f"{where}, {place(huge)}: column {name!r} holds {shown(values[huge])}, a number beyond 64 bits. Write "
                "it as a text, in quotes, or leave the column out."
            ) from error
        raise DataError(f"{where}: column {name!r} mixes types ({cut(error)}). Use one type per column.") from error


def _is_huge(value: Any) -> bool:
    """Returns whether there is an integer in it that no type of Arrow holds."""
    if isinstance(value, list):
        return any(_is_huge(item) for item in value)
    if isinstance(value, dict):
        return any(_is_huge(item) for item in value.values())
    return isinstance(value, int) and not -(2**63) <= value < 2**64


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if isinstance(value, dict):
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    return value
