"""Lists what there is to run, and how much work it is."""

import math
from collections.abc import Sequence

import pandas as pd

from declora.experiments.arguments import parse_seeds
from declora.experiments.catalogue import EXPERIMENTS
from declora.experiments.experiment import Cell, Experiment, Grid
from declora.experiments.scale import Scale, find_scale

__all__ = ["overview", "training_samples"]


def overview(scale: str | Scale = "small", *, seeds: int | Sequence[int] = 3) -> pd.DataFrame:
    """Returns one row per experiment: tasks, rows, runs, and the training samples that all of them see.

    Rows that two experiments share are counted in both, but run once.
    """
    scale = find_scale(scale)
    count = len(parse_seeds(seeds))
    rows = []
    for experiment in EXPERIMENTS.values():
        tasks = experiment.tasks_at(scale)
        cells = {task: _cells(experiment, scale, task) for task in tasks}
        rows.append(
            {
                "experiment": experiment.name,
                "what it is": experiment.title,
                "tasks": ", ".join(tasks),
                "runs": count * sum(map(len, cells.values())),
                "training samples": count
                * sum(training_samples(experiment, scale, task, cells[task]) for task in tasks),
            }
        )
    return pd.DataFrame(rows)


def training_samples(experiment: Experiment, scale: Scale, task: str, cells: Sequence[Cell]) -> int:
    """Returns the training samples that all clients see when each of these cells is run once, K being steps."""
    batch = int(scale.settings_of(experiment.name, task)["batch_size"])
    names = ("clients", "local_steps", "rounds")
    return batch * sum(math.prod(int(cell.settings[name]) for name in names) for cell in cells)


def _cells(experiment: Experiment, scale: Scale, task: str) -> list[Cell]:
    return experiment.cells(Grid(scale, experiment.clients, task))
