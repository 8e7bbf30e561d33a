"""Puts an experiment on paper: its tables, figures and origin, in Markdown and as one HTML page."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from declora.experiments.catalogue import TAGS
from declora.experiments.table import cost_table, quality_table
from declora.report import to_markdown
from declora.report.page import definitions, figure_card, page, section
from declora.report.page import table as html_table

__all__ = ["Document"]

_QUALITY_NOTE = (
    "Mean ± sample standard deviation over the runs, one a seed. Last: after the last round, what a run leaves behind. "
    "Best: over the evaluated rounds, chosen on the evaluation data itself. The averaged model is one model, the mean "
    "of all clients' A, B and head; clients' mean is the mean score of their own models. Differences are in points, "
    "taken seed by seed."
)
_COST_NOTE = (
    "Means over the runs. Bytes are those of the frames sent, headers included; the time is that of all rounds."
)


@dataclass(frozen=True)
class Document:
    """Holds what there is to say of an experiment.

    Attributes:
        title: Its name and title.
        question: What it shows.
        table: One row per task and cell, as `Reproduction.table`.
        evaluated: What each task's models are scored on, in words.
        tables: What else there is to say, by the heading above it.
        origin: Where the figures come from: command, scale, seeds, date, versions, machine.
        figures: By the name of the file.
    """

    title: str
    question: str
    table: pd.DataFrame
    evaluated: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    origin: Mapping[str, str]
    figures: Mapping[str, Figure]

    def markdown(self, prefix: str = "") -> str:
        """Returns the page in Markdown; its figures are `PREFIX` + name + `.png`."""
        parts = [f"# {self.title}\n", f"{self.question}\n"]
        for task, rows in self._tasks():
            parts += [f"## {task}\n", to_markdown(quality_table(rows)), f"{self._quality_note(task, rows)}\n"]
            parts += [to_markdown(cost_table(rows)), f"{_COST_NOTE}\n", f"![course of the runs]({prefix}{task}.png)\n"]
        tasks = set(self.table["task"])
        parts += [f"![{name}]({prefix}{name}.png)\n" for name in self.figures if name not in tasks]
        for heading, table in self.tables.items():
            parts += [f"## {heading}\n", to_markdown(table)]
        origin = pd.DataFrame(self.origin.items(), columns=["what", "value"])
        return "\n".join([*parts, "## Where these figures come from\n", to_markdown(origin)])

    def html(self) -> str:
        """Returns the page as one HTML file."""
        sections = []
        for task, rows in self._tasks():
            sections.append(
                section(
                    task,
                    html_table(quality_table(rows), note=self._quality_note(task, rows)),
                    html_table(cost_table(rows), note=_COST_NOTE),
                    figure_card(self.figures[task], f"course of the runs of {task}"),
                )
            )
        tasks = set(self.table["task"])
        others = [figure_card(figure, name) for name, figure in self.figures.items() if name not in tasks]
        sections.append(section("Graphs and data", *others))
        sections += [section(heading, html_table(table)) for heading, table in self.tables.items()]
        sections.append(section("Where these figures come from", definitions(self.origin)))
        return page(self.title, self.question, "\n".join(part for part in sections if part))

    def _tasks(self) -> list[tuple[str, pd.DataFrame]]:
        return [(str(task), rows) for task, rows in self.table.groupby("task", sort=False)]

    def _quality_note(self, task: str, rows: pd.DataFrame) -> str:
        tags = sorted(set(rows["paper_tag"]) - {""})
        legend = "".join(f" [{tag}]: {TAGS[tag]}." for tag in tags)
        return f"{_QUALITY_NOTE} Scored on {self.evaluated[task]}.{legend}"
