"""Defines what an experiment is: rows of settings to be run and held against each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from declora.data.presets import PRESETS
from declora.experiments.scale import Scale, Work

__all__ = ["Cell", "Experiment", "Grid"]


@dataclass(frozen=True)
class Cell:
    """Describes one row of a table, run once per seed.

    Attributes:
        label: Names the row.
        settings: What its runs set, of `declora.SimulationConfig`. `local_steps` is K, whatever K means.
        reference: Label of the row that it is held against; empty for one that is not.
    """

    label: str
    settings: Mapping[str, Any]
    reference: str = ""


@dataclass(frozen=True)
class Grid:
    """Holds what the cells of an experiment depend on."""

    scale: Scale
    clients: tuple[int, ...]
    task: str

    @property
    def classes(self) -> int:
        """Returns how many classes the task has."""
        return len(PRESETS[self.task].classes)

    @property
    def work(self) -> Work:
        """Returns (K, T) of an experiment with only one."""
        return self.scale.work_of(self.task)[-1]


@dataclass(frozen=True)
class Experiment:
    """Describes a table, as data.

    Attributes:
        name: What `declora reproduce` is asked for.
        title: What it is, in a line.
        shows: The question that it answers.
        cells: Its rows.
        clients: Numbers of clients, unless others are asked for.
        most_counts: How many such numbers it can take; 0 where its rows fix them.
        tasks: Its tasks by the name of the scale; those of the scale where it names none.
        classes: Numbers of classes that a task may have; any where empty.
        choices: What the paper leaves open of this table alone, and ours.
    """

    name: str
    title: str
    shows: str
    cells: Callable[[Grid], list[Cell]]
    clients: tuple[int, ...] = (10,)
    most_counts: int = 1
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classes: tuple[int, ...] = ()
    choices: tuple[tuple[str, str], ...] = ()

    def tasks_at(self, scale: Scale) -> tuple[str, ...]:
        """Returns its tasks at a scale."""
        return self.tasks.get(scale.name, scale.tasks)
