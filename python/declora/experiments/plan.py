"""The runs of an experiment: every cell with every seed, as configurations. Nothing is loaded here."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import declora
from declora.config import SimulationConfig
from declora.data.presets import PRESETS
from declora.errors import ConfigError, DataError, unknown_name
from declora.experiments.experiment import Cell, Experiment, Grid
from declora.experiments.scale import Scale

__all__ = ["MEANINGS_OF_K", "Job", "Plan", "make_plan"]

MEANINGS_OF_K = ("steps", "epochs")
_OWNED = ("out", "overwrite", "tensorboard", "progress", "compare", "seed", "model", "data", "clients", "tokenizer")
"""Settings that are arguments of their own, or that a grid of runs has no use for."""


@dataclass(frozen=True)
class Job:
    """One run: a cell of a task with one seed."""

    task: str
    cell: Cell
    config: SimulationConfig

    @property
    def key(self) -> str:
        """Names the run by all that its result depends on, so that two tables share one run of the same settings."""
        text = json.dumps([declora.__version__, self.config.describe()], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return f"{self.task}-{self.config.method}-seed{self.config.seed}-{digest}"

    def __str__(self) -> str:
        """As progress names it."""
        return f"{self.task}: {self.cell.label}, seed {self.config.seed}"


@dataclass(frozen=True)
class Plan:
    """An experiment, its choices made.

    Attributes:
        experiment: What is run.
        scale: How large.
        k: What K means, `"steps"` or `"epochs"`.
        as_printed: Whether the numbers of clients are those that the paper's values are for.
        jobs: All runs; those of one task and seed stand together.
        command: What to type to run it again.
    """

    experiment: Experiment
    scale: Scale
    k: str
    as_printed: bool
    jobs: tuple[Job, ...]
    command: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(dict.fromkeys(job.task for job in self.jobs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(dict.fromkeys(job.config.seed for job in self.jobs))

    def cells(self, task: str) -> tuple[Cell, ...]:
        """Returns the rows of a task, in order."""
        return tuple({job.cell.label: job.cell for job in self.jobs if job.task == task}.values())


def make_plan(
    experiment: Experiment,
    scale: Scale,
    *,
    model: str | None = None,
    tasks: Sequence[str] | None = None,
    data: str | Path | Mapping[str, str | Path] = "hub",
    seeds: int | Sequence[int] = 3,
    clients: int | Sequence[int] | None = None,
    k: str = "steps",
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Returns all runs of an experiment; see `declora.reproduce` for the arguments.

    Raises:
        ConfigError: Something is unknown or does not fit, or `settings` has what the rows themselves set.
    """
    settings = dict(settings or {})
    _check(model, k, settings)
    counts = _clients(experiment, clients)
    jobs = []
    for task in tasks or experiment.tasks_at(scale):
        _check_task(experiment, task)
        cells = experiment.cells(Grid(scale, counts, task))
        base = {"codec": "none", **scale.settings_of(task), **settings}
        base |= {"model": model or scale.model, "data": _source(task, data)}
        for seed in _seeds(seeds):
            for cell in cells:
                own = _named(cell.settings, k)
                if clash := sorted(settings.keys() & own.keys()):
                    raise ConfigError(
                        f"{clash[0]}={settings[clash[0]]!r}: the rows of {experiment.name} set it. Leave it out."
                    )
                rhythm = {"eval_every": max(1, -(-own["rounds"] // scale.evaluations))}
                jobs.append(Job(task, cell, _config(experiment, cell, {**rhythm, **base, **own, "seed": seed})))
    command = _command(experiment, scale, model=model, tasks=tasks, data=data, seeds=seeds, clients=clients, k=k)
    for name, value in settings.items():
        command += f" --set {name}={value}"
    return Plan(experiment, scale, k, counts == experiment.clients, tuple(jobs), command)


def _config(experiment: Experiment, cell: Cell, settings: Mapping[str, Any]) -> SimulationConfig:
    try:
        return SimulationConfig().override(**settings)
    except ConfigError as error:
        raise ConfigError(f"experiment={experiment.name!r}, row {cell.label!r}: {error}") from error


def _check(model: object, k: str, settings: Mapping[str, Any]) -> None:
    if not isinstance(model, str | None):
        raise ConfigError(f"model={model!r} must be a hub id or a path, by which a finished run is found again.")
    if k not in MEANINGS_OF_K:
        raise unknown_name("k", k, MEANINGS_OF_K)
    if objects := sorted(name for name, value in settings.items() if not isinstance(value, str | int | float | None)):
        raise ConfigError(f"{objects[0]} is a {type(settings[objects[0]]).__name__}; reproduce takes text and numbers.")
    if owned := sorted(settings.keys() & set(_OWNED)):
        raise ConfigError(f"{owned[0]}={settings[owned[0]]!r} is no setting of reproduce, or an argument of its own.")


def _clients(experiment: Experiment, clients: int | Sequence[int] | None) -> tuple[int, ...]:
    if clients is None:
        return experiment.clients
    counts = (clients,) if isinstance(clients, int) else tuple(clients)
    if not 1 <= len(counts) <= experiment.most_counts:
        most = f"at most {experiment.most_counts}" if experiment.most_counts else "no other"
        raise ConfigError(f"clients={clients!r}: {experiment.name} takes {most} number(s) of clients.")
    return counts


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"seeds={seeds!r} must be a number of at least 1, or different seeds, e.g. 3 or [0, 1, 2].")
    return chosen


def _check_task(experiment: Experiment, task: str) -> None:
    if task not in PRESETS:
        raise unknown_name("task", task, PRESETS)
    classes = len(PRESETS[task].classes)
    if experiment.classes and classes not in experiment.classes:
        fitting = [name for name, preset in PRESETS.items() if len(preset.classes) in experiment.classes]
        raise ConfigError(
            f"task={task!r} has {classes} classes, which {experiment.name} has no rows for. Use one of "
            f"{', '.join(fitting)}."
        )


def _source(task: str, data: str | Path | Mapping[str, str | Path]) -> str:
    """Returns what `data` of a run says: the task, and where its rows are."""
    if isinstance(data, Mapping):
        if task not in data:
            raise ConfigError(
                f"data has no source of {task!r}, only of {', '.join(data)}. Give {task}=PATH or {task}=hub."
            )
        return f"{task}={data[task]}"
    if data == "hub":
        return f"{task}=hub"
    folder = Path(data) / task
    if not folder.is_dir():
        raise DataError(f"data={str(data)!r} has no folder {task!r}. Give the folder that holds it, or {task}=PATH.")
    return f"{task}={folder}"


def _named(settings: Mapping[str, Any], k: str) -> dict[str, Any]:
    """Returns a cell's settings with K under the name of what it counts."""
    return {f"local_{k}" if name == "local_steps" else name: value for name, value in settings.items()}


def _command(experiment: Experiment, scale: Scale, **arguments: Any) -> str:
    """Returns the command line of a plan, without what stands at its default."""
    words = ["declora", "reproduce", experiment.name, "--scale", scale.name]
    for name, value in arguments.items():
        if name == "data" and isinstance(value, Mapping):
            words += [word for task, path in value.items() for word in ("--data", f"{task}={path}")]
        elif value is not None and (name, value) not in (("k", "steps"), ("data", "hub")):
            shown = str(value) if isinstance(value, str | int | Path) else ",".join(map(str, value))
            words += [f"--{name}", shown]
    return " ".join(map(shlex.quote, words))
