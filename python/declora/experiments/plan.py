"""Plans the runs of an experiment: every cell with every seed, as configurations. Nothing is loaded here."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import declora
from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.experiments.arguments import (
    check_k,
    check_model,
    check_settings,
    check_task,
    command_line,
    parse_clients,
    parse_seeds,
    parse_tasks,
    source_of,
)
from declora.experiments.contents import Contents
from declora.experiments.experiment import Cell, Experiment, Grid
from declora.experiments.scale import Scale
from declora.topology.names import is_file

__all__ = ["Job", "Plan", "files_of", "findable", "make_plan"]


@dataclass(frozen=True)
class Job:
    """Describes one run: a cell of a task with one seed."""

    task: str
    cell: Cell
    config: SimulationConfig
    contents: Mapping[str, str] = field(default_factory=dict)
    """What settings that name files stand for: digests of what is in them."""

    @property
    def key(self) -> str:
        """Names the run by all that its result depends on, so that two tables share one run of the same settings.

        Files count by what is in them, not by where they lie; a name on a hub counts as it is.
        """
        text = json.dumps([declora.__version__, {**self.config.describe(), **self.contents}], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        method = re.sub(r"[^\w.-]+", "_", str(self.config.method))
        return f"{self.task}-{method}-seed{self.config.seed}-{digest}"

    def __str__(self) -> str:
        """Names it as progress does."""
        return f"{self.task}: {self.cell.label}, seed {self.config.seed}"


@dataclass(frozen=True)
class Plan:
    """Holds an experiment, its choices made.

    Attributes:
        experiment: What is run.
        cuts: How large it is, and what is smaller than in the paper, in words.
        k: What K means, `"steps"` or `"epochs"`.
        as_printed: Whether clients and metric are those that the paper's values are for.
        jobs: All runs; those of one task and seed stand together.
        command: What to type to run it again.
    """

    experiment: Experiment
    cuts: str
    k: str
    as_printed: bool
    jobs: tuple[Job, ...]
    command: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """Returns the tasks, in order."""
        return tuple(dict.fromkeys(job.task for job in self.jobs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Returns the seeds, in order."""
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
    settings = check_settings(settings or {})
    model, k = check_model(model), check_k(k)
    counts = parse_clients(experiment, clients)
    contents, jobs = Contents(), []
    for task in parse_tasks(tasks) or experiment.tasks_at(scale):
        check_task(experiment, task)
        cells = experiment.cells(Grid(scale, counts, task))
        base = {"codec": "none", **scale.settings_of(experiment.name, task), **settings}
        base |= {"model": model or scale.model, "data": source_of(task, data)}
        for seed in parse_seeds(seeds):
            for cell in cells:
                own = _named(cell.settings, k)
                if clash := sorted(settings.keys() & own.keys()):
                    raise ConfigError(
                        f"{clash[0]}={settings[clash[0]]!r}: the rows of {experiment.name} set it. Leave it out."
                    )
                rhythm = {"eval_every": max(1, -(-own["rounds"] // scale.evaluations))}
                config = _config(experiment, cell, {**rhythm, **base, **own, "seed": seed})
                jobs.append(Job(task, cell, config, files_of(config, contents)))
    command = command_line(experiment, scale, model=model, tasks=tasks, data=data, seeds=seeds, clients=clients, k=k)
    for name, value in settings.items():
        command += f" --set {name}={value}"
    as_printed = counts == experiment.clients and "metric" not in settings
    return Plan(experiment, scale.cuts, k, as_printed, tuple(jobs), command)


def _config(experiment: Experiment, cell: Cell, settings: Mapping[str, Any]) -> SimulationConfig:
    try:
        return findable(SimulationConfig().override(**settings))
    except ConfigError as error:
        raise ConfigError(f"experiment={experiment.name!r}, row {cell.label!r}: {error}") from error


def findable(config: SimulationConfig) -> SimulationConfig:
    """Returns the settings of a run that can be found again by them.

    Raises:
        ConfigError: One is an object, of which there is only a description.
    """
    for name, described in config.describe().items():
        if isinstance(described, str) and not isinstance(value := getattr(config, name), str):
            raise ConfigError(
                f"{name} is a {type(value).__name__}, and nothing by which a finished run could be found again. "
                "Give text, numbers or an array."
            )
    return config


def files_of(config: SimulationConfig, contents: Contents) -> dict[str, str]:
    """Returns what the settings stand for that may name files: the model, data of all kinds, a graph."""
    names = {name: getattr(config, name) for name in ("model", "data", "eval_data", "public_data")}
    if is_file(config.topology):
        names["topology"] = config.topology
    return {setting: _content_of(str(name), contents) for setting, name in names.items() if name is not None}


def _content_of(name: str, contents: Contents) -> str:
    """Returns the content of a path, also of one that is given as `TASK=PATH`."""
    task, equals, path = name.partition("=")
    return contents.of(name) if os.path.exists(name) or not equals else f"{task}={contents.of(path)}"


def _named(settings: Mapping[str, Any], k: str) -> dict[str, Any]:
    """Returns a cell's settings with K under the name of what it counts."""
    return {f"local_{k}" if name == "local_steps" else name: value for name, value in settings.items()}
