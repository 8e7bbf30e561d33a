"""Shows lists of names in messages: cut, since a name or a text of the data may be of any length."""

from collections.abc import Iterable

from declora.errors import shown

__all__ = ["listed"]

_NAMES = 12


def listed(names: Iterable[object]) -> str:
    """Returns a list as Python writes it, each item cut, and after twelve only how many there are."""
    items = list(names)
    more = f", ... ({len(items)} in all)" if len(items) > _NAMES else ""
    return f"[{', '.join(shown(item) for item in items[:_NAMES])}{more}]"
