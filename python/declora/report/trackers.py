"""Sends what is measured of a run to a tracker: Weights & Biases, MLflow, Trackio."""

import json
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from declora.callbacks import Callback, RunFacts
from declora.errors import cut, shorten
from declora.report.belongings import place_of
from declora.report.records import finite
from declora.report.tensorboard import tag

__all__ = ["Tracker", "trackers_of"]

_PROJECT = "declora"


class Tracker(Callback, ABC):
    """Sends settings and numbers of a run to a service, under the tags that TensorBoard's curves have, too.

    One that cannot begin stops the run before its first round; one that fails later is given up with a warning, since
    no run is to be lost to a report. Where the process has begun a run of the service itself (W&B, MLflow), that one is
    used and left open.
    """

    name: ClassVar[str]
    """What `report_to` calls it."""

    def __init__(self) -> None:
        self._hears = False

    def on_start(self, run: RunFacts) -> None:
        """Begins a run of the service, or goes on with it."""
        self._begin(run)
        self._hears = True

    def on_round(self, run: RunFacts, record: dict[str, Any]) -> None:
        """Sends the numbers of a round."""
        numbers = {tag(name): number for name, value in record.items() if (number := finite(value)) is not None}
        step = int(numbers.pop("round"))
        self._try(lambda: self._log(numbers, step))

    def on_end(self, run: RunFacts, result: Any) -> None:
        """Ends the run of the service as one that has finished."""
        self._try(self._end)

    def on_stop(self, run: RunFacts, error: BaseException) -> None:
        """Ends it as one that has failed."""
        self._try(self._fail)

    def __str__(self) -> str:
        """The setting that asks for it."""
        return f"report_to={self.name}"

    @abstractmethod
    def _begin(self, run: RunFacts) -> None: ...
    @abstractmethod
    def _log(self, numbers: dict[str, float], step: int) -> None: ...
    @abstractmethod
    def _end(self) -> None: ...
    @abstractmethod
    def _fail(self) -> None: ...

    def _try(self, act: Callable[[], None]) -> None:
        if not self._hears:
            return
        try:
            act()
        except Exception as error:
            self._hears = False
            warnings.warn(
                f"report_to={self.name!r} fails and hears no more of this run, which goes on without it: "
                f"{type(error).__name__}: {cut(error)}",
                stacklevel=2,
            )


class _WandB(Tracker):
    """Weights & Biases; WANDB_PROJECT names the project, WANDB_MODE=offline keeps all on this machine."""

    name = "wandb"

    def _begin(self, run: RunFacts) -> None:
        import wandb

        self._own = wandb.run is None
        self._run: Any = wandb.run or wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), id=run.name, resume="allow", name=_title(run)
        )
        self._run.config.update(dict(run.settings), allow_val_change=True)
        self._run.define_metric("*", step_metric="round")

    def _log(self, numbers: dict[str, float], step: int) -> None:
        # As a number of its own, not as the step of W&B, which may not go back: a run that resumes repeats some rounds.
        self._run.log({**numbers, "round": step})

    def _end(self) -> None:
        if self._own:
            self._run.finish()

    def _fail(self) -> None:
        if self._own:
            self._run.finish(exit_code=1)


class _MLflow(Tracker):
    """MLflow; MLFLOW_TRACKING_URI names the server or folder, MLFLOW_EXPERIMENT_NAME the experiment."""

    name = "mlflow"
    _LONGEST = 500
    """Characters of a parameter that every server takes."""
    _AT_ONCE = 100
    """Parameters that a server takes at once."""

    def _begin(self, run: RunFacts) -> None:
        import mlflow
        from mlflow.entities import Param

        self._client: Any = mlflow.MlflowClient()
        active = mlflow.active_run()
        self._own = active is None
        self._id = self._found_or_created(run) if active is None else active.info.run_id
        params = [Param(name, shorten(_text(value), self._LONGEST)) for name, value in run.settings.items()]
        if self._own and not run.after:  # else others may be there, and a second value of one is refused
            for first in range(0, len(params), self._AT_ONCE):
                self._client.log_batch(self._id, params=params[first : first + self._AT_ONCE])

    def _found_or_created(self, run: RunFacts) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        found = self._client.search_runs([experiment], f"tags.declora_run = '{run.name}'") if run.after else ()
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
        created = self._client.create_run(experiment, run_name=_title(run), tags={"declora_run": run.name})
        return str(created.info.run_id)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def _end(self) -> None:
        if self._own:
            self._client.set_terminated(self._id, "FINISHED")

    def _fail(self) -> None:
        if self._own:
            self._client.set_terminated(self._id, "FAILED")


class _Trackio(Tracker):
    """Trackio, which keeps all on this machine; TRACKIO_PROJECT names the project."""

    name = "trackio"

    def _begin(self, run: RunFacts) -> None:
        import trackio

        self._run: Any = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            name=f"{_title(run)}-{run.name[:8]}",  # which names the run there
            config=dict(run.settings),
            resume="allow",
        )

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers, step=step)

    def _end(self) -> None:
        self._run.finish()

    def _fail(self) -> None:
        self._run.finish()


_TRACKERS: Mapping[str, type[Tracker]] = {kind.name: kind for kind in (_WandB, _MLflow, _Trackio)}


def trackers_of(names: Iterable[str]) -> list[Tracker]:
    """Returns a tracker for each of these names of `report_to` but TensorBoard's, whose events are a run folder's."""
    return [_TRACKERS[name]() for name in names if name in _TRACKERS]


def _title(run: RunFacts) -> str:
    """Returns what people call a run: its folder, and its label where that says more."""
    folder = None if run.folder is None else place_of(run.folder).name
    return run.label if folder in (None, run.label) else f"{folder}: {run.label}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
