"""Handles what a process meets at its edges: signals, and streams that are closed, full or cannot write a text."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Stopped", "discard_output", "handling_signals", "prepare_streams"]

_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; whoever cleans up after an interruption does so after this."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)

    def report(self) -> int:
        """Says so in one line, and returns the exit status that goes with it."""
        with contextlib.suppress(OSError):
            os.write(2, f"declora: {_NAMES[self.number]}\n".encode())
        return 128 + self.number


@contextlib.contextmanager
def handling_signals() -> Iterator[None]:
    """Raises `Stopped` where SIGINT or SIGTERM arrives; does nothing in threads, which get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Who ignores a signal (nohup, a shell's background job) goes on ignoring it; None is no handler of Python's.
    found = {number: signal.getsignal(number) for number in _NAMES}
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends the process by an exception, but during an import at once: what is raised there may be swallowed."""
    stopped = Stopped(number)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os._exit(stopped.report())
        frame = frame.f_back
    raise stopped


def prepare_streams() -> None:
    """Gives closed standard streams something to read or write, and replaces what an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The system gives a file the lowest free number, here that of the closed stream; left free, it would
            # become that of a file of the run, and a library's messages would be written into it.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def discard_output() -> None:
    """Lets what standard output could not take go nowhere; else Python tries once more when it ends."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
