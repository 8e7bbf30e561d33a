"""Finds the columns of the text and the label, and checks that the texts are there."""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from declora.data.causal_columns import check_causal, check_chats, check_pairs, known_causal
from declora.data.display import listed
from declora.data.names import LABELS, MESSAGES, PAIRS, PREFERENCES, ROW_NAMES, TEXTS, columns_of, first_of
from declora.data.parts import Part
from declora.data.presets import TASKS, Task
from declora.errors import ConfigError, DataError, shown, unknown_name

__all__ = ["Columns", "check_texts", "choose_columns"]

_STRINGS = tuple(datasets.Value(kind) for kind in ("string", "large_string", "string_view"))


@dataclass(frozen=True)
class Columns:
    """Names what to read: the task, the text columns in order, and the label column (None for causal-lm)."""

    task: Task
    texts: tuple[str, ...]
    label: str | None
    completion: str | None = None
    """What continues the prompt in the text columns (causal-lm); None for plain text and conversations."""
    chat: bool = False
    """Whether the text column (and the completion, if there is one) holds lists of messages."""

    @property
    def read(self) -> tuple[str, ...]:
        """Returns the columns of texts and messages."""
        return self.texts if self.completion is None else (*self.texts, self.completion)


def choose_columns(
    part: Part,
    *,
    task: str | None,
    text_columns: str | Sequence[str] | None,
    label_column: str | None,
    completion_column: str | None = None,
    prompt_template: str | None = None,
) -> Columns:
    """Returns the user's choice where there is one, else the well-known names.

    Without a task it is classification where there is a label column, else causal-lm. Text columns without a
    well-known name are found too if just one string column is left. `unread.check_unread` says which of these guesses
    are too bold.

    Raises:
        ConfigError: The task is unknown, or the settings contradict each other.
        DataError: A column is missing; the message lists those found.
    """
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    chosen = _chosen(text_columns)
    for setting, value in (("label_column", label_column), ("completion_column", completion_column)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{setting}={shown(value)} must be the name of a column, in quotes.")
    names = part.dataset.column_names
    if task is None and label_column is None and (completion_column or prompt_template):
        task = "causal-lm"
    if task == "causal-lm" and label_column is not None:
        raise ConfigError(f"label_column={label_column!r} has no use with task='causal-lm'. Leave one of them out.")
    labels = (label_column,) if label_column else columns_of(names, LABELS)
    if task == "causal-lm" or (task is None and not labels):
        texts, completion = known_causal(names, chosen, completion_column, prompt_template)
        texts = texts or _known_texts(part, completion)
        chat = check_causal(part, texts, completion, prompt_template, named=completion_column is not None)
        return Columns("causal-lm", texts, None, completion, chat)
    for name, value in (("completion_column", completion_column), ("prompt_template", prompt_template)):
        if value is not None:
            raise ConfigError(f"{name}={value!r} has no use with task='classification'. Leave one of them out.")
    if len(labels) != 1:
        problem = f"has the label columns {listed(labels)}" if labels else f"has no label column ({', '.join(LABELS)})"
        raise DataError(
            f"{part.where} {problem} for task='classification'. Columns found: {listed(names)}. Name it with "
            "label_column."
        )
    label = labels[0]
    texts = chosen or _known_texts(part, label)
    if len(set(texts)) < len(texts) or label in texts:
        raise ConfigError(
            f"text_columns={listed(texts)} with label_column={label!r} names a column twice. Name each once."
        )
    if len(texts) > 2:
        raise ConfigError(
            f"text_columns={listed(texts)}: classification takes one text or a pair. Name one or two columns."
        )
    return Columns("classification", texts, label)


def check_texts(part: Part, columns: Columns) -> None:
    """Checks that the columns exist and that each text is a string with something in it.

    Raises:
        DataError: Naming the column, and the row where one is at fault.
    """
    names = part.dataset.column_names
    for column in (*columns.read, columns.label):
        if column is not None and column not in names:
            raise DataError(
                f"{part.where} has no column {shown(column)}. Columns found: {listed(names)}. Set text_columns and "
                "label_column (or completion_column)."
            )
    if columns.chat:
        check_chats(part, columns.texts[0], columns.completion)
        return
    if columns.completion is not None:
        check_pairs(part, columns.texts)
    for column in columns.texts if columns.completion is None else (columns.completion,):
        for row, text in enumerate(part.dataset[column][:]):
            if text is None or (isinstance(text, str) and not text.strip()):
                what = "null" if text is None else "empty"
                raise DataError(
                    f"{part.where}: the text in column {column!r} of row {row} (the first is 0) is {what}. "
                    "Fill it in or drop the row."
                )
            if not isinstance(text, str):
                raise DataError(
                    f"{part.where}: column {column!r} of row {row} (the first is 0) holds {shown(text)}, not a "
                    "text. Name the text columns with text_columns, or convert it to a string."
                )


def _chosen(text_columns: object) -> tuple[str, ...]:
    if isinstance(text_columns, str):
        return (text_columns,)
    if text_columns is None:
        return ()
    if not isinstance(text_columns, Sequence) or not all(isinstance(name, str) for name in text_columns):
        raise ConfigError(f"text_columns={shown(text_columns)} must be the name of a column, in quotes, or a list.")
    return tuple(text_columns)


def _check_rows(part: Part) -> None:
    """Checks that the rows are neither single messages nor preferences, whose texts alone say little."""
    names = part.dataset.column_names
    if message := first_of(names, MESSAGES):
        raise DataError(
            f"{part.where}: the rows are messages ({listed(message)}), not conversations. Give each conversation as "
            "one row, {'messages': [{'role': ..., 'content': ...}, ...]}, or name the columns to read."
        )
    if preferences := first_of(names, [PREFERENCES]):
        raise DataError(
            f"{part.where} holds preferences ({listed(preferences)}), but declora learns completions. Columns found: "
            f"{listed(names)}. Name the prompt with text_columns, and completion_column={preferences[0]!r}."
        )


def _known_texts(part: Part, taken: str | None) -> tuple[str, ...]:
    """Returns the text columns by their usual names, or the only string column, `taken` (label, completion) aside."""
    names = [name for name in part.dataset.column_names if name != taken]
    _check_rows(part)
    if known := first_of(names, [*PAIRS, *((name,) for name in TEXTS)]):
        return known
    features, numbering = part.dataset.features, columns_of(names, ROW_NAMES)
    strings = [name for name in names if name not in numbering and features[name] in _STRINGS]
    if len(strings) == 1:
        return (strings[0],)
    raise DataError(
        f"{part.where} has no text column that declora knows (text, sentence, sentence1 and sentence2, ...). "
        f"Columns found: {listed(part.dataset.column_names)}. Name one or two with text_columns"
        f"{'' if taken else ', and the label, if there is one, with label_column'}."
    )
