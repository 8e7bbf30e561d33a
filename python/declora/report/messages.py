"""Says what a run has to say on standard error: no run is lost because nobody can read it."""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

from declora.errors import cut

__all__ = ["Messages", "is_shown", "say", "source_name"]

_LOG = logging.getLogger("declora")


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


def say(line: str, enabled: bool | None = None) -> None:
    """Says one line: on standard error where somebody looks, else to the logger `declora` (level INFO).

    Args:
        line: What is said.
        enabled: The setting `progress`: True, somebody looks; False, nobody does; None, who has a terminal or a
            notebook does. The command line prints what goes to the logger.
    """
    if is_shown(enabled):
        print(line, file=Messages())
    else:
        _LOG.info("%s", line)


def source_name(source: object) -> str:
    """Returns where data or a model come from, in few letters: a name or path, or what kind of object it is."""
    return cut(source, 40) if isinstance(source, str | Path) else type(source).__name__


def is_shown(enabled: bool | None) -> bool:
    """Whether somebody looks at standard error."""
    return Messages().isatty() or _in_notebook() if enabled is None else enabled


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
