"""Takes an experiment from its name to a table, its figures, and the page that shows them: `reproduce`."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from declora.experiments.catalogue import find_experiment
from declora.experiments.choices import open_choices
from declora.experiments.experiment import Experiment
from declora.experiments.figures import course, figures, looks, pictures
from declora.experiments.grid import run_grid
from declora.experiments.numbers import numbers, run_numbers
from declora.experiments.page import Document
from declora.experiments.plan import Plan, make_plan
from declora.experiments.scale import Scale, find_scale
from declora.experiments.store import Finished, Store
from declora.experiments.table import cost_table, quality_table
from declora.kinds import Place
from declora.report import RunFolder, to_text

__all__ = ["Reproduction", "reproduce"]

_VERSIONS = ("declora", "torch", "transformers", "peft", "python")


def reproduce(
    experiment: str | Experiment,
    *,
    scale: str | Scale = "small",
    model: str | None = None,
    tasks: Sequence[str] | None = None,
    data: str | Path | Mapping[str, str | Path] = "hub",
    seeds: int | Sequence[int] = 3,
    clients: int | Sequence[int] | None = None,
    k: str = "steps",
    out: str | Path = "runs/reproduce",
    progress: bool | None = None,
    **settings: Any,
) -> "Reproduction":
    """Runs an experiment of the Dec-LoRA paper (arXiv 2501.15361) or one of ours: every row with every seed.

    Finished runs are kept in `out/cells` under a name made of all their settings: what was interrupted goes on when
    called again, two tables share the runs they have in common, and changed settings run anew. Files of data and of a
    local model count by what is in them: changed ones run anew, moved ones do not.

    Args:
        experiment: Its name: table1, table2, table4, label-skew, messages, local-steps, topologies,
            learning-rate; or one of yours.
        scale: `"small"` (all-MiniLM-L6-v2, small batches) or `"paper"` (RoBERTa-base and the paper's sizes), or yours.
        model: Hub id or path of another base model.
        tasks: Names of tasks (`["sst2"]`); None: the experiment's own.
        data: Where the tasks are: `"hub"`, a folder with a folder for each, or a table (`{"sst2": "PATH"}`).
        seeds: How many (0, 1, ...), or which.
        clients: Another number of clients, or for table2 several.
        k: Whether K counts `"steps"` or local `"epochs"`.
        out: Folder of runs and tables.
        progress: False shows nothing; otherwise there is a bar on a terminal, elsewhere a line per finished run.
        **settings: Settings of every run (`device="cuda"`, `batch_size=16`); `SimulationConfig` documents each.

    Returns:
        The table with all that it was made from; it is also written to `out/NAME`.

    Raises:
        ConfigError, TopologyError, DataError, ModelError, CodecError, RunFolderError: A run cannot be run; it is named,
            and nothing was trained.
        TrainingError: A run left the finite numbers; what had finished stays.
    """
    out = Place().check("out", out)
    plan = make_plan(
        find_experiment(experiment),
        find_scale(scale),
        model=model,
        tasks=tasks,
        data=data,
        seeds=seeds,
        clients=clients,
        k=k,
        settings=settings,
    )
    tables = Path(out) / plan.experiment.name
    RunFolder.check(tables, overwrite=True)  # before hours of training
    reproduction = Reproduction(plan, run_grid(plan, Store(Path(out) / "cells"), progress=progress))
    reproduction.write(tables)
    return reproduction


@dataclass(frozen=True)
class Reproduction:
    """Holds a finished experiment.

    Attributes:
        plan: What was run.
        finished: Each run's history and facts, by its key.
    """

    plan: Plan
    finished: Mapping[str, Finished]

    @property
    def runs(self) -> pd.DataFrame:
        """Returns one row per run, of plain numbers."""
        return run_numbers(self.plan, self.finished)

    @property
    def table(self) -> pd.DataFrame:
        """Returns one row per task and cell: means and deviations over seeds, and the paper's value where known."""
        return numbers(self.plan, self.runs)

    @property
    def choices(self) -> pd.DataFrame:
        """Returns what the paper leaves open (`open`), and what was done here (`ours`)."""
        return pd.DataFrame(open_choices(self.plan), columns=["open", "ours"])

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Returns what else the page shows, by the heading above it."""
        return {"What the paper leaves open, and ours": self.choices}

    @property
    def origin(self) -> dict[str, str]:
        """Returns where the figures come from: command, sizes, seeds, dates, versions and machine."""
        facts = [self.finished[job.key].facts for job in self.plan.jobs]
        dates = sorted({fact["date"] for fact in facts})
        environment = facts[0]["environment"]
        return {
            "command": self.plan.command,
            "scale": self.plan.cuts,
            "model": str(self.plan.jobs[0].config.model),
            "seeds": ", ".join(map(str, self.plan.seeds)),
            "run on": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
            "machine": environment["machine"],
            "device": environment["device"],
            "versions": ", ".join(f"{name} {environment[name]}" for name in _VERSIONS),
        }

    def figures(self) -> dict[str, Figure]:
        """Returns the figures: the course of each task, the graphs, and who has which labels where rows differ."""
        return figures(self.plan, self.finished)

    def document(self, **origin: str) -> Document:
        """Returns the page; `origin` adds to where its figures come from (`commit="..."`)."""
        first = {job.task: self.finished[job.key].facts["facts"] for job in reversed(self.plan.jobs)}
        return Document(
            title=f"{self.plan.experiment.name}: {self.plan.experiment.title}",
            question=self.plan.experiment.shows,
            table=self.table,
            evaluated={task: facts["evaluated on"] for task, facts in first.items()},
            tables=self.tables,
            origin={**self.origin, **origin},
            figures=self.figures(),
            panels={task: course(self.plan, self.finished, task) for task in self.plan.tasks},
            looks={task: looks(self.plan, self.finished, task) for task in self.plan.tasks},
            pictures=pictures(self.plan, self.finished),
        )

    def write(self, path: str | Path, **origin: str) -> Path:
        """Writes `table.md`, `table.csv`, `runs.csv`, `report.html` and the figures into a folder of their own.

        Args:
            path: The folder; an earlier table in it is replaced.
            **origin: What to add to where the figures come from.

        Raises:
            RunFolderError: It cannot be written, or holds files that declora did not write.
        """
        document = self.document(**origin)
        with RunFolder(path, overwrite=True) as folder:
            folder.write_text("table.md", document.markdown())
            folder.write_text("table.csv", self.table.to_csv(index=False))
            folder.write_text("runs.csv", self.runs.to_csv(index=False))
            folder.write_text("report.html", document.html())
            for name, figure in document.figures.items():
                image = io.BytesIO()
                figure.savefig(image, format="png", dpi=150)
                folder.write_bytes(f"{name}.png", image.getvalue())
        return folder.root

    def __str__(self) -> str:
        """Shows the tables, aligned."""
        parts = []
        for task, rows in self.table.groupby("task", sort=False):
            parts += [f"{task}\n", to_text(quality_table(rows)), to_text(cost_table(rows))]
        for heading, table in self.tables.items():
            parts += [f"{heading}\n", to_text(table)]
        return "\n".join(parts)
