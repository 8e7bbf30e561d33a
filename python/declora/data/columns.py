"""Which columns are the text and the label, and whether the texts are there."""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from declora.data.causal_columns import check_causal, check_chats, check_pairs, known_causal
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
_SINGLE = (("text",), ("sentence",), ("content",), ("question",))


@dataclass(frozen=True)
class Columns:
    """What to read: the task, the text columns in order, and the label column (None for causal-lm)."""

    task: Task
    texts: tuple[str, ...]
    label: str | None
    completion: str | None = None
    """What continues the prompt in the text columns (causal-lm); None for plain text and conversations."""
    chat: bool = False
    """Whether the one text column holds conversations."""


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
    well-known name are found too if just one string column is left.

    Raises:
        ConfigError: The task is unknown, or the settings contradict each other.
        DataError: A column is missing; the message lists those found.
    """
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    names = part.dataset.column_names
    if task is None and label_column is None and (completion_column or prompt_template):
        task = "causal-lm"
    if task == "causal-lm" and label_column is not None:
        raise ConfigError(f"label_column={label_column!r} has no use with task='causal-lm'. Leave one of them out.")
    label = label_column or next((name for name in _LABELS if name in names), None)
    chosen = (text_columns,) if isinstance(text_columns, str) else tuple(text_columns or ())
    if task == "causal-lm" or (task is None and label is None):
        texts, completion = known_causal(names, chosen, completion_column, prompt_template)
        texts = texts or _known_texts(part, completion)
        chat = check_causal(part, texts, completion, prompt_template)
        return Columns("causal-lm", texts, None, completion, chat)
    for name, value in (("completion_column", completion_column), ("prompt_template", prompt_template)):
        if value is not None:
            raise ConfigError(f"{name}={value!r} has no use with task='classification'. Leave one of them out.")
    if label is None:
        raise DataError(
            f"{part.where} has no label column (label, labels or target) for task='classification'. Columns "
            f"found: {names}. Name it with label_column."
        )
    texts = chosen or _known_texts(part, label)
    if len(set(texts)) < len(texts) or label in texts:
        raise ConfigError(
            f"text_columns={list(texts)} with label_column={label!r} names a column twice. Name each once."
        )
    if len(texts) > 2:
        raise ConfigError(
            f"text_columns={list(texts)}: classification takes one text or a pair. Name one or two columns."
        )
    return Columns("classification", texts, label)


def check_texts(part: Part, columns: Columns) -> None:
    """Checks that the columns exist and that each text is a string with something in it.

    Raises:
        DataError: Naming the column, and the row where one is at fault.
    """
    names = part.dataset.column_names
    for column in (*columns.texts, columns.completion, columns.label):
        if column is not None and column not in names:
            raise DataError(
                f"{part.where} has no column {column!r}. Columns found: {names}. Set text_columns and label_column "
                "(or completion_column)."
            )
    full = columns.texts if columns.completion is None else (columns.completion,)
    if columns.chat:
        check_chats(part, columns.texts[0])
        return
    if columns.completion is not None:
        check_pairs(part, columns.texts)
    for column in full:
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


def _known_texts(part: Part, taken: str | None) -> tuple[str, ...]:
    """Returns the text columns by their usual names, or the only string column, `taken` (label, completion) aside."""
    names = part.dataset.column_names
    for known in (*_PAIRS, *_SINGLE):
        if taken not in known and all(name in names for name in known):
            return known
    features = part.dataset.features
    strings = [
        n for n in names if n != taken and features[n] in (datasets.Value("string"), datasets.Value("large_string"))
    ]
    if len(strings) == 1:
        return (strings[0],)
    raise DataError(
        f"{part.where} has no text column that declora knows (text, sentence, sentence1 and sentence2, ...). "
        f"Columns found: {names}. Name one or two with text_columns."
    )
