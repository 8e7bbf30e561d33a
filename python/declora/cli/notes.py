"""Where the command line prints what runs say of themselves."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["notes_on_stderr"]


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Prints what runs say of themselves where no progress is shown, too."""
    log, handler = logging.getLogger("declora"), logging.StreamHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
