"""The arguments of `reproduce`, checked and read; and written down again as a command."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from declora.data.presets import PRESETS
from declora.errors import ConfigError, DataError, unknown_name
from declora.experiments.experiment import Experiment
from declora.experiments.scale import Scale

__all__ = ["check_arguments", "check_task", "command_line", "parse_clients", "parse_seeds", "source_of"]

_MEANINGS_OF_K = ("steps", "epochs")
_OWNED = ("out", "overwrite", "tensorboard", "progress", "compare", "seed", "model", "data", "clients", "tokenizer")
"""Settings that are arguments of their own, or that a grid of runs has no use for."""


def check_arguments(model: object, k: str, settings: Mapping[str, Any]) -> None:
    """Checks what does not depend on the experiment.

    Raises:
        ConfigError: An argument is unknown, or is nothing by which a finished run could be found again.
    """
    if not isinstance(model, str | None):
        raise ConfigError(f"model={model!r} must be a hub id or a path, by which a finished run is found again.")
    if k not in _MEANINGS_OF_K:
        raise unknown_name("k", k, _MEANINGS_OF_K)
    if objects := sorted(name for name, value in settings.items() if not isinstance(value, str | int | float | None)):
        raise ConfigError(f"{objects[0]} is a {type(settings[objects[0]]).__name__}; reproduce takes text and numbers.")
    if owned := sorted(settings.keys() & set(_OWNED)):
        raise ConfigError(f"{owned[0]}={settings[owned[0]]!r} is no setting of reproduce, or an argument of its own.")


def parse_clients(experiment: Experiment, clients: int | Sequence[int] | None) -> tuple[int, ...]:
    """Returns the numbers of clients that an experiment runs with."""
    if clients is None:
        return experiment.clients
    counts = (clients,) if isinstance(clients, int) else tuple(clients)
    if not 1 <= len(counts) <= experiment.most_counts:
        most = f"at most {experiment.most_counts}" if experiment.most_counts else "no other"
        raise ConfigError(f"clients={clients!r}: {experiment.name} takes {most} number(s) of clients.")
    return counts


def parse_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Returns the seeds: so many from 0 on, or those given."""
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(f"seeds={seeds!r} must be a number of at least 1, or different seeds, e.g. 3 or [0, 1, 2].")
    return chosen


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
