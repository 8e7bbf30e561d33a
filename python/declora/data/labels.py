"""Turns labels of any kind into class indices 0..C-1 and class names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
from numpy.typing import NDArray

from declora.data.classes import check_kinds, check_present, class_names, index_of, one_spelling, tidy, whole_number
from declora.data.display import listed
from declora.data.parts import Part
from declora.data.presets import Preset
from declora.errors import DataError, shown

__all__ = ["Found", "Labels", "check_few", "check_split", "find_labels", "read_labels"]


@dataclass(frozen=True)
class Found:
    """The labels in some training data: all that must be known of them where other training data is."""

    labels: Mapping[str, tuple[str, ...]]
    """Of each part, by what to call it, each label once, sorted: class names where these are declared."""
    rows: int
    """Of all parts."""
    declared: tuple[str, ...] | None = None
    """The names of the classes, where the parts declare them."""


@dataclass(frozen=True)
class Labels:
    """Holds class names, and the class index of each row of the training and of the evaluation parts."""

    names: tuple[str, ...]
    train: NDArray[np.int64]
    evaluation: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    """What was guessed, in whole sentences."""
    present: frozenset[int] = frozenset()
    """Classes that the training data has, wherever it is."""

    @staticmethod
    def none(train: Sequence[Part], evaluation: Sequence[Part]) -> "Labels":
        """Returns those of rows without labels: no names, and all rows alike."""
        rows = [sum(part.dataset.num_rows for part in parts) for parts in (train, evaluation)]
        return Labels((), np.zeros(rows[0], np.int64), np.zeros(rows[1], np.int64))


def find_labels(
    train: Sequence[Part], evaluation: Sequence[Part], column: str, preset: Preset | None
) -> tuple[Found, list[list[str]]]:
    """Returns the labels of training parts, and that of each row as it is written.

    Args:
        train: The training parts.
        evaluation: The evaluation parts.
        column: The label column of all of them.
        preset: The well-known task that the data is.

    Raises:
        DataError: A label is none, or of no class that is declared.
    """
    declared = _declared_names(train, column) or _declared_names(evaluation, column)
    if preset and declared and len(declared) != len(preset.classes):
        raise DataError(
            f"{train[0].where} declares the classes {listed(declared)}, but {preset.name!r} has "
            f"{listed(preset.classes)}. Leave out '{preset.name}=', or map the labels."
        )
    declared = declared or (preset.classes if preset else None)
    written = [_texts(part, column) for part in train]
    labels = dict[str, tuple[str, ...]]()
    for part, rows in zip(train, written, strict=True):
        texts = rows
        if declared:
            texts = _by_declared(part, rows, column, declared)
            _indices(texts, declared, part.where)
        labels[part.where] = tuple(sorted({*texts, *labels.get(part.where, ())}))
    return Found(labels, sum(map(len, written)), declared), written


def read_labels(
    train: Sequence[Part],
    evaluation: Sequence[Part],
    column: str,
    written: Sequence[list[str]],
    everywhere: Sequence[Found],
    *,
    named: bool,
) -> Labels:
    """Returns the labels of all parts, by the classes that are declared anywhere, else those found.

    Args:
        train: The training parts.
        evaluation: The evaluation parts.
        column: The label column of all of them.
        written: Of each training part the labels of its rows, as `find_labels` returned them.
        everywhere: What that found in these training parts, and in those on other hosts.
        named: Whether the user said that this is the label column.

    Raises:
        DataError: A label is of no class; classes differ between parts, or in nothing but their spelling.
    """
    declared = _one_of({found.declared for found in everywhere if found.declared}, column)
    parts = [*train, *evaluation]
    texts = [*written, *(_texts(part, column) for part in evaluation)]
    known = {where: set(labels) for found in everywhere for where, labels in found.labels.items()}
    if declared:
        names, notes = declared, _counting_note(column, texts, declared)
        texts = [_by_declared(part, rows, column, names) for part, rows in zip(parts, texts, strict=True)]
        present = {index_of(text, names) for labels in known.values() for text in labels}
    else:
        found = {text for rows in texts for text in rows}.union(*known.values())
        check_present(column, found)
        spelling, notes = one_spelling(column, found)
        texts = [[spelling[text] for text in rows] for rows in texts]
        known = {where: {spelling[text] for text in labels} for where, labels in known.items()}
        check_kinds(column, known)
        names = class_names(text for labels in known.values() for text in labels)
        notes.append(f"Classes found in column {column!r}: {listed(names)}.")
        if not named:
            check_few(next(iter(known)), column, names, sum(found.rows for found in everywhere))
        present = set(range(len(names)))
    indices = [_indices(rows, names, part.where) for rows, part in zip(texts, parts, strict=True)]
    none = [np.empty(0, np.int64)]
    return Labels(
        names,
        np.concatenate(indices[: len(train)]),
        np.concatenate(indices[len(train) :] or none),
        tuple(notes),
        frozenset(index for index in present if index is not None and index < len(names)),
    )


def check_split(labels: Labels) -> list[str]:
    """Checks that there are two classes to tell apart; returns what is to be said of those that a split lacks.

    Raises:
        DataError: The training data has one class.
    """
    names = labels.names
    in_train, in_evaluation = set(labels.train.tolist()) | labels.present, set(labels.evaluation.tolist())
    if len(in_train) < 2:
        raise DataError(
            f"All labels of the training data are {shown(names[labels.train[0]])}. Classification needs at least two "
            "classes (for text to continue, set task='causal-lm')."
        )
    notes = []
    if missing := sorted(in_train - in_evaluation):
        notes.append(
            f"The evaluation data has no row of {listed(names[i] for i in missing)}, so the scores say nothing of "
            f"{'this class' if len(missing) == 1 else 'these classes'}."
        )
    if missing := sorted(set(range(len(names))) - in_train):
        notes.append(
            f"The training data has no row of {listed(names[i] for i in missing)}, so nothing is learned of it."
        )
    return notes


def _declared_names(parts: Sequence[Part], column: str) -> tuple[str, ...] | None:
    """Returns the names of the parts' `ClassLabel`, or None where the labels are plain numbers or texts."""
    features = (part.dataset.features.get(column) for part in parts)
    return _one_of({tuple(feature.names) for feature in features if isinstance(feature, datasets.ClassLabel)}, column)


def _one_of(declared: Collection[tuple[str, ...]], column: str) -> tuple[str, ...] | None:
    """Returns the class names that are declared, of which there must not be others."""
    if len(declared) > 1:
        names = " and ".join(listed(names) for names in sorted(declared)[:2])
        raise DataError(f"The clients' data sets have different class names in {column!r}: {names}. Use the same.")
    return next(iter(declared), None)


def _texts(part: Part, column: str) -> list[str]:
    """Returns each row's label as a text: the class name of a `ClassLabel`, the number of a number."""
    feature = part.dataset.features[column]
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    texts = []
    for row, value in enumerate(part.dataset[column][:]):
        text = _text(value)
        hidden = text is not None and whole_number(tidy(text)) == -1
        if text is None or hidden:
            reason = "is null" if value is None or not str(value).strip() else f"is {shown(value)}, not a class"
            if hidden:
                reason = "is -1, the mark of a hidden label (the test splits of GLUE)"
            raise DataError(
                f"{part.where}: the label in column {column!r} of row {row} (the first is 0) {reason}. Use "
                "integers from 0 or class names, and for evaluation a split with public labels (eval_data), "
                "such as validation."
            )
        texts.append(_name(part, row, text, names) if names else text)
    return texts


def _counting_note(column: str, texts: Sequence[Sequence[str]], names: Sequence[str]) -> list[str]:
    known = {tidy(name) for name in names}
    if all(tidy(text) in known for rows in texts for text in rows):
        return []
    return [f"Labels in column {column!r} that are numbers count the classes {listed(names)} from 0."]


def _by_declared(part: Part, texts: list[str], column: str, names: tuple[str, ...]) -> list[str]:
    """Returns the class names that a part's labels write, which it has in any case where it declares them itself."""
    return texts if _declared_names([part], column) == names else _by_name(part, texts, names)


def _by_name(part: Part, texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns the class names that the labels write in another way, or count.

    Raises:
        DataError: They may do either, with another result, where the classes have numbers as names.
    """
    labels = set(texts)
    counts = {text: whole_number(tidy(text)) for text in labels}
    counted = all(count is not None and 0 <= count < len(names) for count in counts.values())
    named = {text: index_of(text, names) for text in labels}
    if counted and named != counts:
        if labels <= set(names):
            raise DataError(
                f"{part.where}: the labels {listed(sorted(labels))} may be names of the classes {listed(names)}, or "
                "count them from 0. Declare them as a datasets.ClassLabel."
            )
        named = counts
    return [
        text if (index := named[text]) is None else _name(part, row, str(index), names)
        for row, text in enumerate(texts)
    ]


def _name(part: Part, row: int, index: str, names: Sequence[str]) -> str:
    if not 0 <= int(index) < len(names):
        raise DataError(f"{part.where}: label {index} of row {row} is beyond the {len(names)} classes {listed(names)}.")
    return names[int(index)]


def check_few(where: str, column: str, names: Sequence[str], rows: int, *, told: bool = False) -> None:
    """Checks that what goes by the usual name of a label repeats, as classes do and texts do not.

    Args:
        where: What to call the data.
        column: The label column.
        names: Each label once.
        rows: How many rows have them.
        told: Whether other hosts will be told them, so that even few must repeat.

    Raises:
        DataError: It does not.
    """
    if len(names) > (rows / 2 if told else max(20, rows / 2)):
        leaving = " Other hosts would be told each of them." if told else ""
        raise DataError(
            f"{where}: column {column!r} holds {len(names)} different labels in {rows} rows, which look like texts to "
            f"learn, not like classes.{leaving} To classify all the same set label_column={column!r}; for texts that "
            f"continue others set task='causal-lm' and completion_column={column!r}."
        )


def _indices(texts: Sequence[str], names: Sequence[str], where: str) -> NDArray[np.int64]:
    index = {name: i for i, name in enumerate(names)}
    if unknown := sorted(set(texts) - set(index)):
        raise DataError(
            f"{where} has the label {shown(unknown[0])}, which is none of the classes of the training data "
            f"({listed(names)}). Remove those rows, or add such rows to the training data."
        )
    return np.array([index[text] for text in texts], dtype=np.int64)


def _text(value: object) -> str | None:
    """Returns a label as text, or None if it is not one."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None
