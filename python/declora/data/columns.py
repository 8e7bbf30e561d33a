"""Which columns are the text and the label, and whether the texts are there."""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from declora.data.presets import TASKS, Task
from declora.data.sources import Part
from declora.errors import ConfigError, DataError, unknown_name

__all__ = ["Columns", "check_texts", "choose_columns"]

_LABELS = ("label", "labels", "target")
_PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
)
_CONTINUED = (
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
)
_SINGLE = (("text",), ("sentence",), ("content",), ("question",))
_TEXTS = {"classification": (*_PAIRS, *_SINGLE), "causal-lm": (*_CONTINUED, *_PAIRS, *_SINGLE)}


@dataclass(frozen=True)
class Columns:
    """What to read: the task, the text columns in order, and the label column (None for causal-lm)."""

    task: Task
    texts: tuple[str, ...]
    label: str | None


def choose_columns(
    part: Part, *, task: str | None, text_columns: str | Sequence[str] | None, label_column: str | None
) -> Columns:
    """Returns the user's choice where there is one, else the well-known names.

    Without a task it is classification where there is a label column, else causal-lm. Text columns without a
    well-known name are found too if just one string column is left.

    Raises:
        ConfigError: The task is unknown, or the settings contradict each other.
        DataError: A column is missing; the message lists those found.
    """
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    names = part.dataset.column_names
    if task == "causal-lm" and label_column is not None:
        raise ConfigError(f"label_column={label_column!r} has no use with task='causal-lm'. Leave one of them out.")
    label = label_column or next((name for name in _LABELS if name in names), None)
    found: Task = "classification"
    if task == "causal-lm" or (task is None and label is None):
        found, label = "causal-lm", None
    elif label is None:
        raise DataError(
            f"{part.where} has no label column (label, labels or target) for task='classification'. Columns "
            f"found: {names}. Name it with label_column."
        )
    chosen = (text_columns,) if isinstance(text_columns, str) else tuple(text_columns or ())
    texts = chosen or _known_texts(part, found, label)
    if len(set(texts)) < len(texts) or label in texts:
        raise ConfigError(
            f"text_columns={list(texts)} with label_column={label!r} names a column twice. Name each once."
        )
    if found == "classification" and len(texts) > 2:
        raise ConfigError(
            f"text_columns={list(texts)}: classification takes one text or a pair. Name one or two columns."
        )
    return Columns(found, texts, label)


def check_texts(part: Part, columns: Columns) -> None:
    """Checks that the columns exist and that each text is a string with something in it.

    Raises:
        DataError: Naming the column, and the row where one is at fault.
    """
    names = part.dataset.column_names
    for column in (*columns.texts, *([columns.label] if columns.label else [])):
        if column not in names:
            raise DataError(
                f"{part.where} has no column {column!r}. Columns found: {names}. Set text_columns and label_column."
            )
    for column in columns.texts:
        for row, text in enumerate(part.dataset[column][:]):
            if text is None or (isinstance(text, str) and not text.strip()):
                what = "null" if text is None else "empty"
                raise DataError(
                    f"{part.where}: the text in column {column!r} of row {row} (the first is 0) is {what}. "
                    "Fill it in or drop the row."
                )
            if not isinstance(text, str):
                raise DataError(
                    f"{part.where}: column {column!r} of row {row} (the first is 0) holds {text!r:.60}, not a "
                    "text. Name the text columns with text_columns, or convert it to a string."
                )


def _known_texts(part: Part, task: str, label: str | None) -> tuple[str, ...]:
    names = part.dataset.column_names
    for known in _TEXTS[task]:
        if label not in known and all(name in names for name in known):
            return known
    features = part.dataset.features
    strings = [
        n for n in names if n != label and features[n] in (datasets.Value("string"), datasets.Value("large_string"))
    ]
    if len(strings) == 1:
        return (strings[0],)
    raise DataError(
        f"{part.where} has no text column that declora knows (text, sentence, sentence1 and sentence2, ...). "
        f"Columns found: {names}. Name one or two with text_columns."
    )
