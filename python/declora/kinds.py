"""Kinds of settings: what each may be, how a text of the command line is read as one, and as what it is kept.

A kind judges values that may be anything, before anything is loaded or written. What it returns is plain Python: a
numpy integer is the whole number that it is, so that files and digests do not depend on what made it.
"""

import errno
import math
import os
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from declora.errors import ConfigError, DecloraError, refuse, shown, unknown_name

__all__ = [
    "Choice", "Given", "Kind", "Name", "Place", "Real", "Source", "Switch", "Table", "Text", "Texts", "Whole", "Wholes",
    "parse_value",
]  # fmt: skip

_SPELLINGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_PLAIN = (type(None), bool, int, float, complex, bytes, np.generic)
"""What stands for no object: a number where a graph or a model is expected is a mistake."""


def parse_value(text: str) -> Any:
    """Returns what `text` means: a TOML value (`3`, `0.5`, `true`, `[1, 2]`, `"x"`), `none`, or the text itself."""
    if text.lower() == "none":
        return None
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML; a number of 5,000 digits; a thousand brackets
        return text
    return table["value"] if len(table) == 1 else text


class Kind(ABC):
    """What a setting may be."""

    @abstractmethod
    def check(self, name: str, value: Any) -> Any:
        """Returns `value` as it is kept.

        Raises:
            ConfigError: It is not of this kind; the message has the setting's `name`.
        """

    def parse(self, text: str) -> Any:
        """Returns what `text` on the command line means, for `check` to judge."""
        return text

    def read(self, name: str, text: str) -> Any:
        """Returns what `text` means, checked.

        Raises:
            ConfigError: It means nothing of this kind.
        """
        return self.check(name, self.parse(text))


class Switch(Kind):
    """True or false; on the command line also yes, no, on, off, 1 and 0."""

    def check(self, name: str, value: Any) -> bool:
        """Returns the truth value."""
        if not isinstance(value, bool | np.bool_):
            quoted = isinstance(value, str) and value.strip().lower() in _SPELLINGS
            refuse(name, value, "true or false" + ", without quotes" * quoted)
        return bool(value)

    def parse(self, text: str) -> Any:
        """Returns the truth value that `text` spells, else the text."""
        return _SPELLINGS.get(text.strip().lower(), text)


class Whole(Kind):
    """A whole number between two bounds, both included."""

    def __init__(self, least: int, most: int = 2**63 - 1) -> None:
        self._least, self._most = least, most

    def check(self, name: str, value: Any) -> Any:
        """Returns the number."""
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < self._least:
            refuse(name, value, f"a whole number of at least {self._least}")
        if value > self._most:
            refuse(name, value, f"a whole number of at most {self._most:,}")
        return int(value)

    def parse(self, text: str) -> Any:
        """Returns the number that `text` spells, else what else it means."""
        return parse_value(text)


class Wholes(Whole):
    """A whole number, or a list of them."""

    def check(self, name: str, value: Any) -> Any:
        """Returns the number, or the list."""
        value = value.tolist() if isinstance(value, np.ndarray) else value
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [super(Wholes, self).check(f"{name}[{i}]", number) for i, number in enumerate(value)]
        return super().check(name, value)

    def parse(self, text: str) -> Any:
        """Returns the number, or the list that is written in brackets or with commas (`3,4`, `3,`)."""
        return parse_value(f"[{text}]" if "," in text and not text.startswith("[") else text)


class Real(Kind):
    """A finite number: it may not reach the bounds `above` and `below`, and may reach `least` and `most`."""

    def __init__(
        self,
        *,
        above: float = -math.inf,
        least: float = -math.inf,
        below: float = math.inf,
        most: float = math.inf,
    ) -> None:
        self._above, self._least, self._below, self._most = above, least, below, most

    def check(self, name: str, value: Any) -> int | float:
        """Returns the number; a whole one stays an integer, while a float could hold it as well."""
        if not self._holds(value):
            refuse(name, value, f"a finite number{self._bounds}")
        return int(value) if isinstance(value, int | np.integer) and abs(int(value)) <= 2**53 else float(value)

    def parse(self, text: str) -> Any:
        """Returns the number that `text` spells, else what else it means."""
        return parse_value(text)

    def _holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            return False
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond all floats
            return False
        return self._above < number < self._below and self._least <= number <= self._most

    @property
    def _bounds(self) -> str:
        words = {"above": self._above, "of at least": self._least, "below": self._below, "of at most": self._most}
        stated = [f"{word} {bound:g}" for word, bound in words.items() if math.isfinite(bound)]
        return f" {' and '.join(stated)}" if stated else ""


class Text(Kind):
    """A text that is not empty."""

    _wanted: ClassVar[str] = "a name, in quotes"

    def check(self, name: str, value: Any) -> Any:
        """Returns the text."""
        if not isinstance(value, str):
            refuse(name, value, self._wanted)
        if not value.strip():
            raise ConfigError(f"{name}={shown(value)} is empty. Leave {name} out, or say what it should be.")
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, or a file name of another encoding
            refuse(name, value, "a text that UTF-8 can write")
        return str(value)


class Texts(Text):
    """A text, or a list of texts."""

    def check(self, name: str, value: Any) -> Any:
        """Returns the text, or the list."""
        value = value.tolist() if isinstance(value, np.ndarray) else value
        if isinstance(value, list | tuple | set | frozenset):
            texts = [super(Texts, self).check(f"{name}[{i}]", text) for i, text in enumerate(value)]
            return sorted(texts) if isinstance(value, set | frozenset) else texts  # a set has no order of its own
        return super().check(name, value)

    def parse(self, text: str) -> Any:
        """Returns the text, or the list that is written in brackets or with commas."""
        if text.startswith("["):
            return parse_value(text)
        return text.split(",") if "," in text else text


class Choice(Text):
    """One of a few names."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def check(self, name: str, value: Any) -> Any:
        """Returns the name."""
        text = super().check(name, value)
        if text not in self._names:
            raise unknown_name(name, text, self._names)
        return text


class Name(Text):
    """A name with a grammar of its own, such as `"topk:fraction=0.01+choco"`.

    Args:
        read: Reads it; what it cannot read, it refuses by an error that names setting, value and fix.
    """

    def __init__(self, read: Callable[[str], object]) -> None:
        self._read = read

    def check(self, name: str, value: Any) -> Any:
        """Returns the name, which can be read."""
        text = super().check(name, value)
        self._read(text)
        return text


class Place(Text):
    """Where something is: a path, or a name that is looked up."""

    _wanted = "a path, in quotes"

    def check(self, name: str, value: Any) -> Any:
        """Returns it as text."""
        text = super().check(name, str(value) if isinstance(value, Path) else value)
        try:
            os.lstat(text)
        except ValueError as error:  # a NUL
            raise ConfigError(f"{name}={shown(value)} can be no path: {error}. Check how it was made.") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ConfigError(f"{name}={shown(value)} is too long for a path. Check how it was made.") from error
        return text


class Given(Kind):
    """An object that only its own room can judge (a graph, a data set), or a text in its place.

    Args:
        text: The kind of such a text; by default none is taken.
    """

    def __init__(self, text: Kind | None = None) -> None:
        self._text = text

    def check(self, name: str, value: Any) -> Any:
        """Returns the object, or the text."""
        if self._text is not None and isinstance(value, str | Path):
            return self._text.check(name, value)
        if isinstance(value, (*_PLAIN, str)):
            refuse(name, value, "an object" if self._text is None else "a text or an object")
        return value


class Source(Given):
    """A path or a name, or a loaded object in its place, or a list of these. A `Path` is never a name, so it stays."""

    def __init__(self) -> None:
        super().__init__(Place())

    def check(self, name: str, value: Any) -> Any:
        """Returns what was given, the same object: runs that were given one object share what is loaded of it."""
        if not isinstance(value, list | tuple):
            super().check(name, value)
            return value
        for i, item in enumerate(value):
            if isinstance(item, str | Path):
                super().check(f"{name}[{i}]", item)
        return value


class Table(Kind):
    """A table of fields, or the object that is made of them.

    Args:
        whole: The class of that object, for messages.
        error: What is raised, with the message of a `ConfigError`.
        fields: The kinds of some of its fields, by name; the object's own room judges the others.
    """

    def __init__(self, whole: str, error: type[DecloraError] = ConfigError, **fields: Kind) -> None:
        self._whole, self._error, self.fields = whole, error, fields

    def check(self, name: str, value: Any) -> Any:
        """Returns the object, or a table of its own."""
        try:
            return self._check(name, value)
        except ConfigError as error:
            raise self._error(str(error)) from None

    def _check(self, name: str, value: Any) -> Any:
        if isinstance(value, (*_PLAIN, str, list, tuple)):
            refuse(name, value, f"a table of the fields of {self._whole}, or a {self._whole}")
        if not isinstance(value, Mapping):
            return value
        checked = {
            field: kind.check(f"{name}.{field}", value[field])
            for field, kind in self.fields.items()
            if value.get(field) is not None
        }
        return {**value, **checked}

    def parse(self, text: str) -> Any:
        """Returns the table that `text` is in TOML, else what else it means."""
        return parse_value(text)
