"""Checks and reads the arguments of `reproduce`, and writes them down again as a command."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from declora.config import OUTPUT, SETTINGS
from declora.data.presets import PRESETS
from declora.errors import ConfigError, DataError, refuse, shown, unknown_name
from declora.experiments.experiment import Experiment
from declora.experiments.scale import Scale
from declora.kinds import Choice, Place, Texts, Whole, Wholes

__all__ = [
    "ALONE", "check_k", "check_model", "check_settings", "check_task", "command_line", "parse_clients", "parse_seeds",
    "parse_tasks", "source_of",
]  # fmt: skip

_MOST_RUNS = 10_000
_ARGUMENTS = {"model", "data", "clients", "seed", "tokenizer"}
_OWNED = OUTPUT | _ARGUMENTS | {name for name, setting in SETTINGS.items() if setting.shared}
"""Settings that are arguments of their own (a tokenizer comes with the model), or that a grid has no use for."""

ALONE: dict[str, Any] = {
    "compare": None,
    "out": None,
    "overwrite": False,
    "checkpoint_every": None,
    "ledger": False,
    "callbacks": None,
    "report_to": None,
}
"""What a run has that is part of something larger, whatever its settings say of a run of its own."""


def check_model(model: object) -> str | None:
    """Returns the base model that was asked for, a name or path by which a finished run is found again."""
    if not isinstance(model, str | Path | None):
        refuse("model", model, "a hub id or a path, by which a finished run is found again")
    return None if model is None else str(Place().check("model", model))


def check_k(k: object) -> str:
    """Returns what K counts."""
    return str(Choice(("steps", "epochs")).check("k", k))


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of every run, as plain Python; their values are judged with the first row that has them.

    Raises:
        ConfigError: One is an argument of its own, or nothing that a command line could say.
    """
    if owned := sorted(settings.keys() & _OWNED):
        name = owned[0]
        raise ConfigError(f"{name}={shown(settings[name])} is no setting of reproduce, or an argument of its own.")
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    if objects := sorted(name for name, value in plain.items() if not isinstance(value, str | int | float | None)):
        raise ConfigError(f"{objects[0]} is a {type(plain[objects[0]]).__name__}; reproduce takes text and numbers.")
    return plain


def parse_clients(experiment: Experiment, clients: int | Sequence[int] | None) -> tuple[int, ...]:
    """Returns the numbers of clients that an experiment runs with."""
    if clients is None:
        return experiment.clients
    counts = _several(Wholes(1).check("clients", clients))
    if not 1 <= len(counts) <= experiment.most_counts:
        most = f"at most {experiment.most_counts}" if experiment.most_counts else "no other"
        raise ConfigError(f"clients={shown(clients)}: {experiment.name} takes {most} number(s) of clients.")
    return counts


def parse_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Returns the seeds: so many from 0 on, or those given."""
    given = Wholes(0, 2**64 - 1).check("seeds", seeds)
    chosen = _several(given) if isinstance(given, list) else tuple(range(Whole(0, _MOST_RUNS).check("seeds", given)))
    if not chosen or len(set(chosen)) < len(chosen):
        refuse("seeds", seeds, "a number of at least 1, or different seeds, e.g. 3 or [0, 1, 2]")
    return chosen


def parse_tasks(tasks: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the tasks that were asked for; none stands for the experiment's own."""
    return () if tasks is None else _several(Texts().check("tasks", tasks))


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def check_task(experiment: Experiment, task: str) -> None:
    """Checks that a task is known, and that the experiment has rows for it."""
    if task not in PRESETS:
        raise unknown_name("task", task, PRESETS)
    classes = len(PRESETS[task].classes)
    if experiment.classes and classes not in experiment.classes:
        fitting = [name for name, preset in PRESETS.items() if len(preset.classes) in experiment.classes]
        raise ConfigError(
            f"task={task!r} has {classes} classes, which {experiment.name} has no rows for. Use one of "
            f"{', '.join(fitting)}."
        )


def source_of(task: str, data: str | Path | Mapping[str, str | Path]) -> str:
    """Returns what `data` of a run says: the task, and where its rows are."""
    if isinstance(data, Mapping) and task not in data:
        raise ConfigError(f"data has no source of {task!r}, only of {', '.join(data)}. Give {task}=PATH or {task}=hub.")
    where = data[task] if isinstance(data, Mapping) else data
    if not isinstance(where, str | Path):
        refuse("data", where, "'hub', a folder, or a table of such by task")
    Place().check("data", where)
    if isinstance(data, Mapping) or where == "hub":
        return f"{task}={where}"
    folder = Path(where) / task
    if not folder.is_dir():
        raise DataError(f"data={str(where)!r} has no folder {task!r}. Give the folder that holds it, or {task}=PATH.")
    return f"{task}={folder}"


def command_line(experiment: Experiment, scale: Scale, **arguments: Any) -> str:
    """Returns the command line of a plan, without what stands at its default."""
    words = ["declora", "reproduce", experiment.name, "--scale", scale.name]
    for name, value in arguments.items():
        if name == "data" and isinstance(value, Mapping):
            words += [word for task, path in value.items() for word in ("--data", f"{task}={path}")]
        elif value is not None and (name, value) not in (("k", "steps"), ("data", "hub")):
            shown = str(value) if isinstance(value, str | int | Path) else ",".join(map(str, value))
            words += [f"--{name}", shown]
    return " ".join(map(shlex.quote, words))
