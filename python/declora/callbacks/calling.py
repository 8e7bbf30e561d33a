"""Calls the hooks of a run's callbacks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from declora.callbacks.callback import Callback, RunFacts
from declora.errors import CallbackError, cut

__all__ = ["Calling"]


class Calling:
    """Tells the callbacks of one run how it goes; each that has heard of its start hears once of its end.

    Args:
        callbacks: In the order in which they are called.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)
        self._begun: list[Callback] = []
        self._run: RunFacts | None = None

    def start(self, run: RunFacts) -> None:
        """Tells that the run begins.

        Raises:
            CallbackError: A hook raises an exception, as in all that follows; a Ctrl-C passes as it is.
        """
        self._run = run
        for callback in self._callbacks:
            self._begun.append(callback)
            self._call(callback, "on_start", "before the first round")

    def round(self, record: dict[str, Any], checkpoint: Path | None) -> None:
        """Tells of a round that is written.

        Args:
            record: What was measured of it.
            checkpoint: The one that was written after it; None where none was.
        """
        when = f"in round {record['round']}"
        evaluated = "seconds_evaluate" in record
        for callback in self._begun:
            self._call(callback, "on_round", when, _copy(record))
            if evaluated:
                self._call(callback, "on_evaluation", when, _copy(record))
            if checkpoint is not None:
                self._call(callback, "on_checkpoint", when, checkpoint)

    def end(self, result: Any) -> None:
        """Tells that the run has finished; where a hook raises an exception, the error has the `result`."""
        while self._begun:
            try:
                self._call(self._begun.pop(0), "on_end", "after the last round", result)
            except CallbackError as error:
                error.result = result
                raise

    @contextmanager
    def until_it_ends(self) -> Iterator[None]:
        """Tells those that have heard of the start and not of the end of any error inside, which goes on.

        Of an exception in `on_stop` itself that error has a note.
        """
        try:
            yield
        except BaseException as error:
            while self._begun:
                callback = self._begun.pop(0)
                try:
                    callback.on_stop(self._facts, error)
                except Exception as another:
                    error.add_note(f"on_stop of callback={str(callback)!r} raised {_described(another)}.")
            raise

    @property
    def _facts(self) -> RunFacts:
        assert self._run is not None, "a run tells that it begins before all else"
        return replace(self._run, settings=dict(self._run.settings))  # nobody else's

    def _call(self, callback: Callback, hook: str, when: str, *given: Any) -> None:
        try:
            getattr(callback, hook)(self._facts, *given)
        except Exception as error:
            raise CallbackError(
                f"callback={str(callback)!r}: {hook}, {when} of {self._facts.label!r}, raised {_described(error)}. "
                f"{self._what_next(hook)}"
            ) from error

    def _what_next(self, hook: str) -> str:
        run = self._facts
        if hook == "on_end":
            written = ", and its folder is complete" if run.folder is not None else ""
            return f"The run has finished: its result is in the error's `result`{written}."
        if run.folder is not None and run.settings.get("checkpoint_every") is not None:
            return (
                "What was written stays. Correct the callback and go on from the last checkpoint: declora.resume(PATH, "
                "callbacks=[...])."
            )
        return "Correct the callback and begin the run again; with out and checkpoint_every it could go on."


def _described(error: Exception) -> str:
    text = cut(error).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _copy(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of which nothing is the run's own."""
    return {**record, "clients": [dict(own) for own in record["clients"]]}
