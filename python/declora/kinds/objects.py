"""Takes objects that only their own rooms can judge, and what may stand in their place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from declora.errors import ConfigError, DecloraError, refuse, shown
from declora.kinds.kind import Kind, parse_value
from declora.kinds.texts import Place, Text

__all__ = ["Given", "Objects", "Source", "Table", "Tables"]

_PLAIN = (type(None), bool, int, float, complex, bytes, np.generic)
"""What stands for no object: a number where a graph or a model is expected is a mistake."""


class Given(Kind):
    """Takes an object that only its own room can judge (a graph, a data set), or a text in its place.

    Args:
        text: The kind of such a text; by default none is taken.
        error: What is raised where it is neither: the error of that room.
        judge: Reads an object, where that needs nothing else; what it cannot read, it refuses.
    """

    def __init__(
        self,
        text: Text | None = None,
        error: type[DecloraError] = ConfigError,
        judge: Callable[[Any], object] | None = None,
    ) -> None:
        self._text, self._error, self._judge = text, error, judge

    def check(self, name: str, value: Any) -> Any:
        """Returns the object, or the text."""
        if self._text is not None and isinstance(value, str | Path):
            return self._text.check(name, value)
        if isinstance(value, (*_PLAIN, str)):
            wanted = "an object" if self._text is None else f"{self._text.wanted}, or an object"
            raise self._error(f"{name}={shown(value)} must be {wanted}.")
        if self._judge is not None:
            self._judge(value)
        return value


class Objects(Kind):
    """Takes a list of objects of one kind, in a list or tuple; none where it is empty.

    Args:
        judge: Refuses what is none of them; its first argument is how messages name one.
        wanted: What the list must be, in words.
    """

    def __init__(self, judge: Callable[[str, Any], None], wanted: str) -> None:
        self._judge, self._wanted = judge, wanted

    def check(self, name: str, value: Any) -> list[Any] | None:
        """Returns the list, the same objects in it."""
        if not isinstance(value, list | tuple):
            refuse(name, value, self._wanted)
        for i, item in enumerate(value):
            self._judge(f"{name}[{i}]", item)
        return list(value) or None


class Source(Given):
    """Takes a path, a name, a loaded object in its place, or a list of these. A `Path` is never a name, so it stays."""

    def __init__(self, error: type[DecloraError] = ConfigError) -> None:
        super().__init__(Place(), error)

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
    """Takes a table of fields, or the object that is made of them.

    Args:
        whole: The class of that object, for messages.
        error: What is raised, with the message of a `ConfigError`.
        fields: The kinds of some of its fields, by name; the object's own room judges the others.
    """

    def __init__(self, whole: str, error: type[DecloraError] = ConfigError, **fields: Kind) -> None:
        self.whole, self._error, self.fields = whole, error, fields

    def check(self, name: str, value: Any) -> Any:
        """Returns the object, or a table of its own."""
        try:
            return self._check(name, value)
        except ConfigError as error:
            raise self._error(str(error)) from None

    def _check(self, name: str, value: Any) -> Any:
        if isinstance(value, (*_PLAIN, str, list, tuple)):
            refuse(name, value, f"a table of the fields of {self.whole}, or a {self.whole}")
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


class Tables(Table):
    """A table or an object in its place, or a list of them, one of each client."""

    def _check(self, name: str, value: Any) -> Any:
        if not isinstance(value, list | tuple) or not value:
            return super()._check(name, value)
        return [super(Tables, self)._check(f"{name}[{i}]", one) for i, one in enumerate(value)]
