"""Finds what a guess leaves unread: columns that must not be passed over without a word."""

from collections.abc import Sequence

import datasets

from declora.data.columns import Columns
from declora.data.display import listed
from declora.data.names import ANSWERS, BESIDE, LABELS, LABELS_PERHAPS, ROW_NAMES, columns_of
from declora.data.parts import Part
from declora.errors import DataError, shown

__all__ = ["check_unread", "columns_note"]

_SPEAKING = ("bool", "float16", "float32", "float64")
_NAMES_AND_NUMBERS = ("int", "uint", "string", "large_string")


def check_unread(parts: Sequence[Part], columns: Columns, *, task_given: bool, texts_given: bool) -> None:
    """Refuses a guess that would learn labelled data as plain text, or half of what belongs together.

    Args:
        parts: The training parts.
        columns: What would be read.
        task_given: Whether the user named the task.
        texts_given: Whether the user named the text columns.

    Raises:
        DataError: Naming the columns that would not be read, and the settings that say what is meant.
    """
    unread = _unread(parts, columns)
    beside = columns_of(unread, BESIDE if columns.label or columns.completion else (*BESIDE, *ANSWERS))
    if not texts_given and beside and not (columns.chat and columns.completion is None):
        where, found = _place(parts, beside[0])
        names = "text_columns" if columns.label else "text_columns and completion_column"
        raise DataError(
            f"{where}: {listed(columns.read)} would be read without {listed(beside)}, which usually goes with it. "
            f"{found} Name what is to be read with {names} (each a column of texts)."
        )
    if task_given or columns.label or columns.completion or columns.chat:
        return
    of_texts = columns_of(unread, (*BESIDE, *ANSWERS))
    label = next((name for name in unread if name not in of_texts and _may_be_label(name, parts)), None)
    where, found = _place(parts, label)
    if label is not None:
        problem = f"beside the text in {listed(columns.texts)} there is {shown(label)}, which may be a label"
    elif len(columns.texts) > 1 and not texts_given:
        problem = f"{listed(columns.texts)} are a pair to classify, but there is no label"
    else:
        return
    raise DataError(
        f"{where}: {problem}. {found} To classify, name the label with label_column; to learn the text itself, set "
        "task='causal-lm'."
    )


def columns_note(parts: Sequence[Part], columns: Columns) -> str:
    """Returns a sentence that says what is read as what, and what of any of the parts is not."""
    unread = _unread(parts, columns)
    kind = "messages" if columns.chat else "text"
    end = f", label {columns.label!r}" if columns.label else ""
    end += f", continued by {columns.completion!r}" if columns.completion else ""
    left = f" (not read: {listed(unread)})" if unread else ""
    return f"Read as {columns.task}: {kind} {' and '.join(map(shown, columns.texts))}{end}{left}."


def _unread(parts: Sequence[Part], columns: Columns) -> list[str]:
    names = dict.fromkeys(name for part in parts for name in part.dataset.column_names)
    passed = {*columns.read, columns.label, *columns_of(names, ROW_NAMES)}
    return [name for name in names if name not in passed]


def _place(parts: Sequence[Part], column: str | None) -> tuple[str, str]:
    """Returns what to call the first part that has the column (none: the first), and a sentence on its columns."""
    part = next((part for part in parts if column in part.dataset.column_names), parts[0])
    return part.where, f"Columns found: {listed(part.dataset.column_names)}."


def _may_be_label(name: str, parts: Sequence[Part]) -> bool:
    """Returns whether a column's name, type or values speak of a label: truth values, fractions, or few that repeat."""
    if columns_of([name], (*LABELS, *LABELS_PERHAPS)):
        return True
    holders = [part.dataset for part in parts if name in part.dataset.features]
    kinds = [rows.features[name] for rows in holders]
    if any(isinstance(kind, datasets.ClassLabel) or getattr(kind, "dtype", "") in _SPEAKING for kind in kinds):
        return True
    if not all(isinstance(kind, datasets.Value) and kind.dtype.startswith(_NAMES_AND_NUMBERS) for kind in kinds):
        return False
    values = [value for rows in holders for value in rows[name][:]]
    return 2 <= len(set(values)) <= len(values) / 2
