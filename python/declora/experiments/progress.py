"""Shows progress over many runs, and the time left by what was measured so far."""

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from declora.experiments.plan import Job
from declora.experiments.store import Finished
from declora.report import format_seconds
from declora.report.messages import Messages
from declora.report.records import last_measured, metric_of
from declora.report.tables import format_value

__all__ = ["GridProgress", "Pace"]


class Pace:
    """Estimates the seconds that remain, from the seconds that the work of each task took so far.

    Texts of one task are longer than those of another, so each has a rate of its own; one that has not begun is taken
    to be like the others.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left: dict[str, float] = {}
        for job in jobs:
            self._left[job.task] = self._left.get(job.task, 0.0) + job.config.rounds * round_work(job)
        self._done = dict.fromkeys(self._left, 0.0)
        self._seconds = dict.fromkeys(self._left, 0.0)

    def add(self, job: Job, seconds: float) -> None:
        """Counts one round of `job`, which took `seconds`."""
        self._left[job.task] -= round_work(job)
        self._done[job.task] += round_work(job)
        self._seconds[job.task] += seconds

    @property
    def seconds_left(self) -> float:
        """Returns the seconds left by the rates so far; NaN before anything was measured."""
        done = sum(self._done.values())
        mean = sum(self._seconds.values()) / done if done else math.nan
        rates = {task: self._seconds[task] / self._done[task] if self._done[task] else mean for task in self._left}
        return sum(self._left[task] * rates[task] for task in self._left)


def round_work(job: Job) -> int:
    """Returns the work of a round: its training samples, or where K counts epochs, those."""
    config = job.config
    if config.local_steps is None:
        return config.local_epochs or 1
    return config.clients * config.local_steps * config.batch_size


class GridProgress:
    """Shows a bar over rounds on a terminal, elsewhere a line per finished run; both on standard error.

    Args:
        jobs: The runs to be done.
        done: How many others were found finished.
        enabled: False shows nothing.
    """

    def __init__(self, jobs: Sequence[Job], done: int, enabled: bool | None) -> None:
        self._pace = Pace(jobs)
        self._done, self._total = done, done + len(jobs)
        self._last = time.perf_counter()
        self._show = enabled is not False
        self._bar: tqdm[Any] | None = None
        if self._show and Messages().isatty():
            rounds = sum(job.config.rounds for job in jobs)
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=rounds, bar_format=form, file=Messages(), dynamic_ncols=True)

    def round(self, job: Job) -> None:
        """Counts a round."""
        now = time.perf_counter()
        self._pace.add(job, now - self._last)
        self._last = now
        if self._bar is not None:
            self._bar.set_description_str(f"run {self._done + 1}/{self._total}, {job}", refresh=False)
            self._bar.set_postfix_str(f"{format_seconds(self._pace.seconds_left)} left", refresh=False)
            self._bar.update(1)

    def finish(self, job: Job, run: Finished | None) -> None:
        """Counts a run; None: one that failed, whose rounds do not come."""
        self._done += 1
        if self._show and self._bar is None:
            left = format_seconds(self._pace.seconds_left)
            print(f"{self._done}/{self._total} {job}: {_score(run)}; {left} left", file=Messages(), flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _score(run: Finished | None) -> str:
    if run is None:
        return "failed"
    metric = metric_of(run.history)
    if metric is None:
        return "not evaluated"
    return f"{metric.label} {format_value(metric.name, last_measured(run.history, metric.average))}"
