"""Wraps standard error as messages of a run need it: no run is lost because nobody can read them."""

import contextlib
import sys
from typing import Any

__all__ = ["Messages"]


class Messages:
    """Stands for `sys.stderr` as it is now, for `print` and bars; what it cannot take (closed, full) is dropped."""

    def __init__(self) -> None:
        self._stream: Any = sys.stderr

    def write(self, text: str) -> None:
        """Writes `text` if that can be done."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: closed, or an encoding without a letter
                self._stream.write(text)

    def flush(self) -> None:
        """Flushes the stream if that can be done."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return bool(self._stream.isatty())
        except (ValueError, AttributeError):
            return False

    def __getattr__(self, name: str) -> Any:
        """Returns what else a bar asks of it: its encoding and its descriptor."""
        return getattr(self._stream, name)
