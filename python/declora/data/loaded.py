"""Reads data that is loaded already as one part: data sets as the user sees them, tables, lists of row dicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa

from declora.data.display import listed
from declora.data.names import MESSAGES, first_of
from declora.data.parts import Part, part_of_table
from declora.data.tables import table_of_columns, table_of_rows
from declora.errors import DataError, cut, shown

__all__ = ["holds_conversations", "holds_rows", "is_table", "read_dataset", "read_rows", "read_table"]

_BATCH = 1000


def read_dataset(where: str, dataset: datasets.Dataset) -> Part:
    """Returns the rows that access to `dataset` gives: through its transform, with the columns of its format.

    A format (torch, numpy, pandas, ...) only says in what a row is wrapped, so it is taken off. A transform makes the
    rows, so it is asked for all of them, once.

    Raises:
        DataError: There are no rows, a text is not UTF-8, or the transform fails.
    """
    if dataset.num_rows == 0:
        raise DataError(f"{where} has no rows. Give at least one, or leave it out.")
    form = dataset.format
    if form["type"] == "custom":
        return _transformed(where, dataset)
    plain = dataset.with_format(None)
    if not form["output_all_columns"] and set(form["columns"]) < set(plain.column_names):
        plain = plain.select_columns(form["columns"])
    try:
        plain.data.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{where} is damaged ({cut(error)}). Write it again from its source.") from error
    return Part(where, plain)


def is_table(data: Any) -> bool:
    """Returns whether it is a table of pandas, polars, Arrow or anything else that gives its columns as Arrow does."""
    return isinstance(data, pd.DataFrame) or hasattr(data, "__arrow_c_stream__")


def read_table(where: str, data: Any) -> Part:
    """Returns the rows of a table, without the index that pandas gives them.

    Raises:
        DataError: There are no rows, or a column that Arrow cannot hold.
    """
    try:
        frame = isinstance(data, pd.DataFrame)
        table = pa.Table.from_pandas(data, preserve_index=False) if frame else pa.table(data)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{where} is a {type(data).__name__} that cannot be read as a table with columns of one type each "
            f"({cut(error)}). Convert what is named there, or leave it out."
        ) from error
    return part_of_table(where, table.replace_schema_metadata(None))


def holds_rows(data: Sequence[Any]) -> bool:
    """Returns whether a list is one of row dicts, not of splits by name (which hold "train", or whole data sets)."""
    return bool(data) and all(
        isinstance(row, Mapping)
        and "train" not in row
        and not any(isinstance(value, datasets.Dataset) or is_table(value) for value in row.values())
        for row in data
    )


def holds_conversations(data: Sequence[Any]) -> bool:
    """Returns whether a list is one of conversations, each a list of messages."""
    return bool(data) and all(
        isinstance(messages, list | tuple)
        and bool(messages)
        and all(isinstance(message, Mapping) and first_of(list(message), MESSAGES) for message in messages)
        for messages in data
    )


def read_rows(where: str, rows: Sequence[Mapping[Any, Any]]) -> Part:
    """Returns the rows of a list of dicts, with null where a row lacks a column.

    Raises:
        DataError: A name is no text, or a column does not fit one type.
    """
    if bad := [name for row in rows for name in row if not isinstance(name, str)]:
        raise DataError(f"{where} has a column of the name {shown(bad[0])}. Give columns names that are texts.")
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    return part_of_table(where, *table_of_rows(where, plain, "row {}".format))


def _transformed(where: str, dataset: datasets.Dataset) -> Part:
    columns: dict[str, list[Any]] = {}
    for start in range(0, dataset.num_rows, _BATCH):
        stop = min(start + _BATCH, dataset.num_rows)
        try:
            batch = {str(name): list(_plain(values)) for name, values in dataset[start:stop].items()}
        except Exception as error:  # of the user's own function
            raise DataError(
                f"{where}: its transform fails on rows {start} to {stop - 1} ({type(error).__name__}: {cut(error)}). "
                "Mend it, or take it off with reset_format()."
            ) from error
        if any(len(values) != stop - start for values in batch.values()) or batch.keys() != (columns or batch).keys():
            raise DataError(
                f"{where}: its transform makes of rows {start} to {stop - 1} the columns {listed(batch)} of "
                f"{sorted({len(values) for values in batch.values()})} rows. Let it give every row, and the same "
                "columns each time."
            )
        for name, values in batch.items():
            columns.setdefault(name, []).extend(values)
    table, notes = table_of_columns(where, columns, "row {}".format)
    part = part_of_table(where, table, [f"{where} has a transform; what it made of the rows at the start is used."])
    features = part.dataset.features.copy()
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.ClassLabel) and features.get(name) == datasets.Value("int64"):
            features[name] = feature
    named = datasets.Dataset(table, info=datasets.DatasetInfo(features=features))
    return Part(where, named, (*part.notes, *notes))


def _plain(value: Any) -> Any:
    """Returns tensors, arrays and numpy numbers, also inside lists and dicts, as lists and Python numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
