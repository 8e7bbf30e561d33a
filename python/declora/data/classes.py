"""Finds labels that are one class: spellings that differ in nothing but white space or the way to write a number."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from declora.data.display import listed
from declora.errors import DataError, shown

__all__ = ["check_kinds", "check_present", "class_names", "index_of", "one_spelling", "tidy", "whole_number"]

_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(\.0*)?")
_NO_LABEL = ("nan", "<na>", "na", "n/a", "null", "none")
"""How programs write that there is nothing, in lower case; the first two are no words of any language."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.I)


def class_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Returns the classes among the labels: by value if all are whole, so 0..C-1 keep their index, else by name."""
    numbers = {text: whole_number(text) for text in set(texts)}
    if None in numbers.values():
        return tuple(sorted(numbers))
    return tuple(sorted(numbers, key=lambda text: (numbers[text], text)))


def tidy(text: str) -> str:
    """Returns a name without the white space around it, and each letter as Unicode's composed form writes it."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def whole_number(text: str) -> int | None:
    """Returns the whole number that a text writes; None: it writes none, or one beyond 18 digits."""
    match = _WHOLE.fullmatch(text)
    return None if match is None else int(match[1])


def one_spelling(column: str, texts: AbstractSet[str]) -> tuple[dict[str, str], list[str]]:
    """Returns the one spelling of each label, and what was taken for the same (whole sentences).

    What `tidy` takes away makes no other class, nor do the ways to write one whole number ("1", "1.0"). Letter case
    might: that is for the user to say.

    Raises:
        DataError: Two labels differ in letter case only.
    """
    spelling, notes = {text: tidy(text) for text in texts}, []
    if alike := _groups(texts, tidy):
        notes.append(f"Labels in column {column!r} that differ in white space only, as {listed(alike[0])}, are one.")
    numbers = {text: number for text in spelling.values() if (number := whole_number(text)) is not None}
    if alike := _groups(numbers, lambda text: str(numbers[text])):
        notes.append(f"Labels in column {column!r} that write one number, as {listed(alike[0])}, are one class.")
        spelling = {text: str(numbers.get(way, way)) for text, way in spelling.items()}
    if alike := _groups(set(spelling.values()), str.casefold):
        raise DataError(
            f"The labels {listed(alike[0])} in column {column!r} differ in letter case only. Write one of them "
            "everywhere, or declare both as a datasets.ClassLabel if they are two classes."
        )
    return spelling, notes


def check_present(column: str, texts: AbstractSet[str]) -> None:
    """Checks that no label is what a program writes where there is none.

    Raises:
        DataError: One is "nan" or "<NA>", or among whole numbers a word for nothing, as "null".
    """
    words = {text for text in texts if whole_number(tidy(text)) is None}
    absent = _NO_LABEL if words < texts and all(tidy(w).casefold() in _NO_LABEL for w in words) else _NO_LABEL[:2]
    if found := next((text for text in sorted(words) if tidy(text).casefold() in absent), None):
        raise DataError(
            f"The label {shown(found)} in column {column!r} is what programs write where there is none. Drop those "
            "rows, or declare it as a class (datasets.ClassLabel)."
        )


def check_kinds(column: str, found: Mapping[str, AbstractSet[str]]) -> None:
    """Checks that the clients' labels are of one kind: all names or all whole numbers, counted from the same one.

    Args:
        column: The label column.
        found: The labels of each client, by what to call its data.

    Raises:
        DataError: The labels are fractions, or those of two clients are not of one kind; these are named.
    """
    everything: list[str] = sorted(set().union(*found.values()))
    fraction = next((text for text in everything if re.search(r"\.[0-9]*[1-9]", text)), None)
    if fraction is not None and all(map(_NUMBER.fullmatch, everything)):
        raise DataError(
            f"The labels in column {column!r} are numbers, but {shown(fraction)} is no whole one, as a class has. Give "
            "whole numbers or names; declora does not learn to predict a quantity."
        )
    fix = f"Write the labels of column {column!r} alike, as names or as a datasets.ClassLabel."
    whole = {where: {whole_number(text) for text in texts} for where, texts in found.items()}
    numbers = {where: {n for n in values if n is not None} for where, values in whole.items() if None not in values}
    named = next((where for where, values in whole.items() if values == {None}), None)
    if named is not None and numbers:
        first = next(iter(numbers))
        raise DataError(
            f"The labels of {first} are numbers ({listed(sorted(numbers[first]))}), but those of {named} are names "
            f"({listed(sorted(found[named]))}). {fix}"
        )
    most = max((len(values) for values in numbers.values()), default=0)
    from_zero, from_one = set(range(most)), set(range(1, most + 1))
    starts = {min(values): where for where, values in numbers.items() if values in (from_zero, from_one)}
    if most > 1 and len(starts) > 1 and all(values <= from_zero or values <= from_one for values in numbers.values()):
        raise DataError(
            f"The labels of {starts[0]} seem to be counted from 0 ({listed(sorted(from_zero))}), but those of "
            f"{starts[1]} from 1 ({listed(sorted(from_one))}). {fix}"
        )


def index_of(text: str, names: Sequence[str]) -> int | None:
    """Returns which of the declared class names a label writes in another way, or counts (from 0); None: none."""
    known = [tidy(name) for name in names]
    if tidy(text) in known:
        return known.index(tidy(text))
    number = whole_number(tidy(text))
    return number if number is not None and number >= 0 else None


def _groups(texts: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Returns the texts that have a key in common, sorted, where there is more than one."""
    groups: dict[str, list[str]] = {}
    for text in sorted(texts):
        groups.setdefault(key(text), []).append(text)
    return [group for group in groups.values() if len(group) > 1]
