"""Runs what is missing of a plan, one run after the other, over one loaded base where they can share it."""

from contextlib import closing

from declora.errors import DecloraError, TrainingError
from declora.experiments.plan import Job, Plan
from declora.experiments.progress import GridProgress
from declora.experiments.store import Finished, Store
from declora.origin import environment
from declora.prepare import Material, prepare
from declora.result import SimulationResult
from declora.run import RoundRecord, Run
from declora.settings import shareable

__all__ = ["run_grid"]


def run_grid(
    plan: Plan, store: Store, *, progress: bool | None = None, failed: dict[str, TrainingError] | None = None
) -> dict[str, Finished]:
    """Returns the finished run of every job of `plan` under its key.

    A run that `store` has is not run again. Before the first is run, one of every row that misses any is checked.

    Args:
        plan: What is run.
        store: Has the finished runs, and gets the others.
        progress: False shows nothing.
        failed: Gets, by key, why a run did not come to its end, and the others go on; None: the first one ends it.

    Raises:
        DecloraError: A run cannot be run, or failed; it is named. What had finished stays.
    """
    runs = {job.key: run for job in plan.jobs if (run := store.load(job)) is not None}
    missing = tuple({job.key: job for job in plan.jobs if job.key not in runs}.values())
    shelf = _Shelf()
    first: dict[tuple[str, str], Job] = {}
    for job in missing:
        first.setdefault((job.task, job.cell.label), job)
    for job in first.values():
        _ready(job, shelf)
    with GridProgress(missing, len(runs), progress) as shown:
        for job in missing:
            try:
                runs[job.key] = _execute(job, shelf, store, shown)
            except TrainingError as error:
                if failed is None:
                    raise
                failed[job.key] = error
                shown.finish(job, None)
    return runs


class _Shelf:
    """Keeps the material that the last run used; the next takes it where it can."""

    def __init__(self) -> None:
        self._held: tuple[Job, Material] | None = None

    def take(self, job: Job) -> Material:
        if self._held is None or not shareable(self._held[0].config, job.config):
            self._held = None  # one base in memory, not two
            self._held = job, prepare(job.config)
        return self._held[1]


def _ready(job: Job, shelf: _Shelf) -> Run:
    try:
        return Run(job.config, shelf.take(job))
    except DecloraError as error:
        raise type(error)(f"{job}: {error}") from error


def _execute(job: Job, shelf: _Shelf, store: Store, shown: GridProgress) -> Finished:
    run = _ready(job, shelf)
    where, recorder = environment(run), store.record(job)

    def observe(record: RoundRecord) -> None:
        recorder.round(record)
        shown.round(job)

    with closing(recorder):
        try:
            outcome = run.execute(observe)
        except DecloraError as error:
            raise type(error)(f"{job}: {error}") from error
        finished = recorder.finish(SimulationResult(run.config, run.partition, run.federation, where, outcome))
    shown.finish(job, finished)
    return finished
