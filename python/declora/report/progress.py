"""Says what a run has to say while it runs: its notes, then a bar over the rounds; quiet where nobody looks."""

import logging
from collections.abc import Iterable, Mapping

from tqdm import tqdm

from declora.metrics import METRICS
from declora.report.messages import Messages
from declora.report.records import finite
from declora.report.tables import format_value

__all__ = ["Progress", "announce"]

_LOG = logging.getLogger("declora")
_SHOWN = {
    "train_loss": "loss",
    **{metric.average: metric.name for metric in METRICS.values()},
    "consensus_distance": "consensus",
    "bytes_total": "sent",
}
_QUALITIES = {metric.average for metric in METRICS.values()}


def announce(notes: Iterable[str], enabled: bool | None = None) -> None:
    """Shows what was guessed or decided for the user, a line each, before the first round.

    Args:
        notes: Whole sentences.
        enabled: As of `Progress`. Where that shows no bar, the lines go to the logger `declora` (level INFO), which the
            command line prints.
    """
    for note in notes:
        if _is_shown(enabled):
            print(f"note: {note}", file=Messages())
        else:
            _LOG.info("note: %s", note)


class Progress:
    """Shows the rounds of a run on stderr, with the last measured loss, quality, consensus and bytes.

    Args:
        total_rounds: rounds of the whole run.
        description: stands before the bar.
        enabled: True shows the bar, False shows nothing at all; None shows it if stderr is a terminal.
        verbose: with `enabled=None` and no terminal, one line of the logger `declora` (level INFO) per
            evaluated round.
        done: rounds that an earlier part of the run has finished.
    """

    def __init__(
        self,
        total_rounds: int,
        description: str = "",
        enabled: bool | None = None,
        *,
        verbose: bool = False,
        done: int = 0,
    ) -> None:
        show = _is_shown(enabled)
        self.total_rounds = total_rounds
        self._description = description
        self._log = verbose and enabled is None and not show
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
            if show
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
        measured = {name: value for name, value in values.items() if value is not None}
        self._values |= {name: _format(name, value) for name, value in measured.items()}
        # Always in the same order, so that nothing jumps when a value comes in late.
        shown = {short: self._values[name] for name, short in _SHOWN.items() if name in self._values}
        if self._bar is not None:
            # One redraw per round: set_postfix alone would add another.
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(1)
        elif self._log and _QUALITIES & measured.keys():
            texts = ", ".join(f"{name} {value}" for name, value in shown.items())
            prefix = f"{self._description}: " if self._description else ""
            _LOG.info("%sround %s/%d: %s", prefix, record.get("round", "?"), self.total_rounds, texts)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _is_shown(enabled: bool | None) -> bool:
    if enabled is None:
        return Messages().isatty()
    return enabled


def _format(name: str, value: float) -> str:
    if name == "bytes_total" or name in _QUALITIES:
        return format_value(name, value).replace(" %", "%")
    return f"{value:.3g}"
