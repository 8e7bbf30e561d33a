"""Lets threads that nobody waits for call torch, as long as the interpreter goes on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Guard"]


class Guard:
    """Calls into C++ that takes the interpreter's lock again when it returns.

    A thread that does so when the interpreter has begun to end is ended there, in the middle of C++, and that ends the
    process with an abort, whatever it had done. So before the end `close` waits for the calls that are under way.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls, self._closed = 0, False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Has a call made meanwhile; once it is closed, waits for good."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def close(self, patience: float) -> None:
        """Lets nobody begin a call any more, and waits for those under way, at most so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._calls, timeout=patience)
