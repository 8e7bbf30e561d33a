"""Takes texts: plain ones, names and paths."""

import errno
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from declora.errors import ConfigError, refuse, shown, unknown_name
from declora.kinds.kind import Kind, parse_value

__all__ = ["Choice", "Choices", "Name", "Place", "Text", "Texts"]


class Text(Kind):
    """Takes a text that is not empty."""

    wanted: ClassVar[str] = "a name, in quotes"
    """What it must be, in words."""

    def check(self, name: str, value: Any) -> Any:
        """Returns the text."""
        if not isinstance(value, str):
            refuse(name, value, self.wanted)
        if not value.strip():
            raise ConfigError(f"{name}={shown(value)} is empty. Leave {name} out, or say what it should be.")
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, or a file name of another encoding
            refuse(name, value, "a text that UTF-8 can write")
        return str(value)


class Texts(Text):
    """Takes a text, or a list of texts."""

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
    """Takes one of a few names."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def check(self, name: str, value: Any) -> Any:
        """Returns the name."""
        text = super().check(name, value)
        if text not in self.names:
            raise unknown_name(name, text, self.names)
        return text


class Choices(Texts):
    """Takes one of a few names, or a list of them, also in one text with commas; none where it is empty or "none"."""

    def __init__(self, names: Collection[str]) -> None:
        self._choice = Choice(names)

    def check(self, name: str, value: Any) -> list[str] | None:
        """Returns the list, each name once."""
        given = super().check(name, value)
        listed = given.split(",") if isinstance(given, str) else given
        wanted = [text.strip() for text in listed if text.strip().lower() != "none"]
        return list(dict.fromkeys(self._choice.check(name, text) for text in wanted)) or None


class Name(Text):
    """Takes a name with a grammar of its own, such as `"topk:fraction=0.01+choco"`.

    Args:
        read: Reads it; what it cannot read, it refuses by an error that names setting, value and fix.
        paths: Whether a `Path` is taken, as its text.
    """

    def __init__(self, read: Callable[[str], object], *, paths: bool = False) -> None:
        self._read, self._paths = read, paths

    def check(self, name: str, value: Any) -> Any:
        """Returns the name, which can be read."""
        text = super().check(name, str(value) if self._paths and isinstance(value, Path) else value)
        self._read(text)
        return text


class Place(Text):
    """Takes the place of something: a path, or a name that is looked up."""

    wanted = "a name or a path, in quotes"

    def check(self, name: str, value: Any) -> Any:
        """Returns it as text, `~` written out."""
        text = os.path.expanduser(super().check(name, str(value) if isinstance(value, Path) else value))
        try:
            os.lstat(text)
        except ValueError as error:  # a NUL
            raise ConfigError(f"{name}={shown(value)} can be no path: {error}. Check how it was made.") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ConfigError(f"{name}={shown(value)} is too long for a path. Check how it was made.") from error
        return text
