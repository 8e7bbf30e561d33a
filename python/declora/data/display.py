"""Names of columns and words of libraries in messages: cut, since a name or a text of the data may be of any length."""

from collections.abc import Iterable

from declora.errors import shorten, shown

__all__ = ["cut", "listed"]

_NAMES = 12


def listed(names: Iterable[object]) -> str:
    """Returns a list as Python writes it, each item cut, and after twelve only how many there are."""
    items = list(names)
    more = f", ... ({len(items)} in all)" if len(items) > _NAMES else ""
    return f"[{', '.join(shown(item) for item in items[:_NAMES])}{more}]"


def cut(text: object, most: int = 200) -> str:
    """Returns a path, or what a library says, on one line of at most `most` characters."""
    return shorten(" ".join(str(text).split()), most)
