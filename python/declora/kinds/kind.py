"""Defines what a kind of settings is."""

import tomllib
from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Kind", "parse_value"]


class Kind(ABC):
    """Says what a setting may be."""

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


def parse_value(text: str) -> Any:
    """Returns what `text` means: a TOML value (`3`, `0.5`, `true`, `[1, 2]`, `"x"`), `none`, or the text itself."""
    if text.lower() == "none":
        return None
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML; a number of 5,000 digits; a thousand brackets
        return text
    return table["value"] if len(table) == 1 else text
