"""Labels of any kind to class indices 0..C-1 and class names."""

import re
from collections.abc import Iterable, Sequence

import datasets
import numpy as np
from numpy.typing import NDArray

from declora.data.sources import Part
from declora.errors import DataError

__all__ = ["check_split", "class_indices", "class_names", "declared_names", "label_texts"]


def declared_names(parts: Sequence[Part], column: str) -> tuple[str, ...] | None:
    """Returns the names of the parts' `ClassLabel`, or None where the labels are plain numbers or texts.

    Raises:
        DataError: Two parts have different names.
    """
    features = (part.dataset.features.get(column) for part in parts)
    declared = {tuple(feature.names) for feature in features if isinstance(feature, datasets.ClassLabel)}
    if len(declared) > 1:
        raise DataError(
            f"The clients' data sets have different class names in {column!r}: {sorted(declared)}. Use the same."
        )
    return declared.pop() if declared else None


def label_texts(part: Part, column: str, names: Sequence[str] | None = None) -> list[str]:
    """Returns each row's label as a text: the class name of a `ClassLabel`, the number of a number.

    Args:
        part: Where the labels are.
        column: Its label column.
        names: Class names that plain numbers index, where another part has a `ClassLabel`.

    Raises:
        DataError: A label is null, hidden (-1), fractional or no label at all; the row is named.
    """
    feature = part.dataset.features[column]
    own_names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    texts = []
    for row, value in enumerate(part.dataset[column][:]):
        text = _text(value)
        if text is None or text == "-1":
            reason = "is null" if value is None or value == "" else f"is {value!r:.60}, not a class"
            if text == "-1":
                reason = "is -1, the mark of a hidden label (the test splits of GLUE)"
            raise DataError(
                f"{part.where}: the label in column {column!r} of row {row} (the first is 0) {reason}. Use "
                "integers from 0 or class names, and for evaluation a split with public labels (eval_data), "
                "such as validation."
            )
        if own_names or (names and text not in names and text.isdecimal()):
            known, index = own_names or names or (), int(text)
            if not 0 <= index < len(known):
                raise DataError(
                    f"{part.where}: label {text} of row {row} is beyond the {len(known)} classes {list(known)}."
                )
            text = known[index]
        texts.append(text)
    return texts


def class_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns the classes among the labels: by value if all are integers, so 0..C-1 keep their index, else by name."""
    seen = set(texts)
    if all(re.fullmatch(r"[+-]?\d+", text) for text in seen):
        return tuple(sorted(seen, key=lambda text: (int(text), text)))
    return tuple(sorted(seen))


def class_indices(texts: Sequence[str], names: Sequence[str], where: str) -> NDArray[np.int64]:
    """Returns the class index of each label text.

    Raises:
        DataError: A label that is not among the classes of the training data.
    """
    index = {name: i for i, name in enumerate(names)}
    if unknown := sorted(set(texts) - set(index)):
        raise DataError(
            f"{where} has the label {unknown[0]!r}, which is none of the classes of the training data "
            f"({list(names)}). Remove those rows, or add such rows to the training data."
        )
    return np.array([index[text] for text in texts], dtype=np.int64)


def check_split(train: NDArray[np.int64], evaluation: NDArray[np.int64], names: Sequence[str]) -> None:
    """Checks that training and evaluation have the same classes, at least two of them.

    Raises:
        DataError: Naming the first class that one of them lacks.
    """
    in_train, in_evaluation = set(train.tolist()), set(evaluation.tolist())
    if len(in_train) < 2:
        raise DataError(
            f"All labels of the training data are {names[train[0]]!r}. Classification needs at least two "
            "classes (for text to continue, set task='causal-lm')."
        )
    if missing := sorted(in_train - in_evaluation):
        raise DataError(
            f"The evaluation data has no sample of class {names[missing[0]]!r}, which the training data has. "
            "Give evaluation data (eval_data) with every class, or leave that class out."
        )
    if missing := sorted(in_evaluation - in_train):
        raise DataError(
            f"The training data has no sample of class {names[missing[0]]!r}, which the evaluation data has. "
            "Add some, or remove that class from the evaluation data."
        )


def _text(value: object) -> str | None:
    """Returns a label as text, or None if it is not one."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and value else None
