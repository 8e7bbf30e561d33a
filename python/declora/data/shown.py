"""Values of the data in messages: always cut, since a text of the data may be of any length."""

from collections.abc import Iterable

__all__ = ["cut", "listed", "shown"]

_LIMIT = 60
_NAMES = 12


def shown(value: object) -> str:
    """Returns `repr(value)`, cut to 60 characters."""
    try:
        text = repr(value[: _LIMIT + 1] if isinstance(value, str | bytes) else value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LIMIT else f"{text[: _LIMIT - 3]}..."


def listed(names: Iterable[object]) -> str:
    """Returns a list as Python writes it, of at most twelve items, each cut to 60 characters."""
    items = list(names)
    more = f", ... ({len(items)} in all)" if len(items) > _NAMES else ""
    return f"[{', '.join(shown(item) for item in items[:_NAMES])}{more}]"


def cut(text: object, limit: int = 200) -> str:
    """Returns a path, or what a library says, on one line of at most `limit` characters; the middle is left out."""
    line = " ".join(str(text).split())
    half = (limit - 3) // 2
    return line if len(line) <= limit else f"{line[:half]}...{line[-half:]}"
