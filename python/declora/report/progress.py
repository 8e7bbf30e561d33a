"""Shows the rounds of a run: a bar where somebody looks, a line now and then elsewhere."""

import logging
import time
from collections.abc import Iterable, Mapping

from tqdm.auto import tqdm  # which is a widget in a notebook

from declora.metrics import METRICS
from declora.report.messages import Messages, is_shown, say
from declora.report.records import finite
from declora.report.tables import format_seconds, format_value

__all__ = ["Progress", "announce"]

_LOG = logging.getLogger("declora")
_SHOWN = {
    "train_loss": "loss",
    **{metric.average: metric.name for metric in METRICS.values()},
    "consensus_distance": "consensus",
    "bytes_total": "sent",
}
_QUALITIES = {metric.average for metric in METRICS.values()}
_SILENCE = 30.0
"""Seconds after which a line is due."""
_LINES = 10
"""Lines of a whole run that is faster than that."""


def announce(notes: Iterable[str], enabled: bool | None = None) -> None:
    """Shows what was guessed or decided for the user, a line each, before the first round.

    Args:
        notes: Whole sentences.
        enabled: As of `Progress`, see `say`.
    """
    for note in notes:
        say(f"note: {note}", enabled)


class Progress:
    """Shows the rounds of a run on stderr, with the last measured loss, quality, consensus and bytes.

    Where there is no bar, lines go to the logger `declora`: each round at level DEBUG, and with `enabled=None` one in
    each tenth of the rounds, and after 30 s without one, at level INFO, which the command line prints.

    Args:
        total_rounds: rounds of the whole run.
        description: stands before the bar, or the line.
        enabled: True shows the bar, False none; None shows it if stderr is a terminal, or in a notebook.
        done: rounds that an earlier part of the run has finished.
    """

    def __init__(
        self,
        total_rounds: int,
        description: str = "",
        enabled: bool | None = None,
        *,
        done: int = 0,
    ) -> None:
        self.total_rounds = total_rounds
        self._description = description
        self._told = enabled is None
        self._begun = self._last = time.monotonic()
        self._first = self._done = self._said = done
        self._values: dict[str, str] = {}
        self._bar = (
            tqdm(
                total=total_rounds,
                initial=done,
                desc=description or None,
                unit="round",
                file=Messages(),
                dynamic_ncols=True,
            )
            if is_shown(enabled)
            else None
        )

    def update(self, record: Mapping[str, object]) -> None:
        """Counts one round, `record` being its row of the history; what it lacks keeps its last value.

        Of the metrics, the headline is shown: the one that the record's `metric` names (all, if it names none).
        """
        headline = METRICS.get(str(record.get("metric")))
        values = {
            name: finite(record.get(name))
            for name in _SHOWN
            if headline is None or name == headline.average or name not in _QUALITIES
        }
        self._values |= {name: _format(name, value) for name, value in values.items() if value is not None}
        self._done += 1
        # Always in the same order, so that nothing jumps when a value comes in late.
        shown = {short: self._values[name] for name, short in _SHOWN.items() if name in self._values}
        if self._bar is None:
            self._log(shown)
        else:
            # One redraw per round: set_postfix alone would add another.
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(1)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _log(self, shown: Mapping[str, str]) -> None:
        """Logs a round, so that it is seen where a line is due."""
        now = time.monotonic()
        tenth = self._done * _LINES // self.total_rounds > self._said * _LINES // self.total_rounds
        due = self._told and (tenth or now - self._last >= _SILENCE)
        if due:
            self._said, self._last = self._done, now
        left = (now - self._begun) / (self._done - self._first) * (self.total_rounds - self._done)
        texts = [f"{name} {value}" for name, value in shown.items()]
        texts += [f"about {format_seconds(left)} left"] if self._done < self.total_rounds else []
        prefix = f"{self._description}: " if self._description else ""
        text = f"{prefix}round {self._done}/{self.total_rounds}: {', '.join(texts)}"
        _LOG.log(logging.INFO if due else logging.DEBUG, "%s", text)


def _format(name: str, value: float) -> str:
    if name == "bytes_total" or name in _QUALITIES:
        return format_value(name, value).replace(" %", "%")
    return f"{value:.3g}"
