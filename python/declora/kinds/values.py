"""Takes values: true or false, whole numbers, and others."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from declora.errors import refuse
from declora.kinds.kind import Kind, parse_value

__all__ = ["Bytes", "Real", "Switch", "Whole", "Wholes"]

_SPELLINGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

_UNITS = {"": 1} | {
    prefix + binary: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for binary, base in (("", 1000), ("I", 1024))
}
"""Bytes of each unit."""


class Switch(Kind):
    """Takes true or false; on the command line also yes, no, on, off, 1 and 0."""

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
    """Takes a whole number between two bounds, both included."""

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


class Bytes(Kind):
    """Takes a number of bytes above 0: a whole one, or a text with a unit, decimal or binary (2GB, 1.5 MiB)."""

    def check(self, name: str, value: Any) -> int:
        """Returns the whole number."""
        found = (
            re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([kKMGT]i?)?B?\s*", value) if isinstance(value, str) else None
        )
        if found is not None:
            value = math.floor(float(found[1]) * _UNITS[(found[2] or "").upper()])
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            refuse(name, value, "a whole number of bytes above 0, or a text with a unit such as '2GB' or '512MiB'")
        return int(value)


class Wholes(Whole):
    """Takes a whole number, or a list of them."""

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
    """Takes a finite number: it may not reach the bounds `above` and `below`, and may reach `least` and `most`."""

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
