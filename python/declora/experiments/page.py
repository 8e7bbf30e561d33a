"""Puts an experiment on paper: its tables, figures and origin, in Markdown and as one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from declora.experiments.catalogue import TAGS
from declora.experiments.table import best_rows, cost_table, quality_table
from declora.report import to_markdown
from declora.report.html import cards
from declora.report.page import definitions, figure_card, grid, key, page, section
from declora.report.page import table as html_table
from declora.report.plots import Panel
from declora.report.style import Look

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
        panels: What to draw of each task on the HTML page, a card each.
        looks: How each row of a task is drawn there.
        pictures: The graphs and who has which labels, each with what is to be seen in it.
    """

    title: str
    question: str
    table: pd.DataFrame
    evaluated: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    origin: Mapping[str, str]
    figures: Mapping[str, Figure]
    panels: Mapping[str, Sequence[Panel]]
    looks: Mapping[str, Mapping[str, Look]]
    pictures: Sequence[tuple[str, Figure]]

    def markdown(self, prefix: str = "") -> str:
        """Returns the page in Markdown; its figures are `PREFIX` + name + `.png`."""
        parts = [f"# {self.title}\n", f"{self.question}\n"]
        for task, rows in self._tasks():
            parts += [f"## {task}\n", to_markdown(quality_table(rows)), f"{self._quality_note(task, rows)}\n"]
            parts += [to_markdown(cost_table(rows)), f"{_COST_NOTE}\n", f"![{self._says(task)}]({prefix}{task}.png)\n"]
        tasks = set(self.table["task"])
        alts = {"topology": "Who talks to whom", "labels": "Who has which labels"}
        seen = " ".join(says for says, _ in self.pictures)
        for name in self.figures:
            if name not in tasks:
                parts.append(f"![{alts.get(name, name)}. {seen}]({prefix}{name}.png)\n")
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
                    html_table(quality_table(rows), note=self._quality_note(task, rows), best=best_rows(rows)),
                    html_table(cost_table(rows), note=_COST_NOTE),
                    key(self.looks[task]),
                    cards(self.panels[task]),
                )
            )
        sections.append(
            section("Graphs and data", grid(figure_card(figure, says, caption=says) for says, figure in self.pictures))
        )
        sections += [section(heading, html_table(table)) for heading, table in self.tables.items()]
        sections.append(section("Where these figures come from", definitions(self.origin)))
        return page(self.title, self.question, "\n".join(part for part in sections if part))

    def _says(self, task: str) -> str:
        """Returns what is to be seen in the figure of a task."""
        return self.panels[task][0].says or "Course of the runs"

    def _tasks(self) -> list[tuple[str, pd.DataFrame]]:
        return [(str(task), rows) for task, rows in self.table.groupby("task", sort=False)]

    def _quality_note(self, task: str, rows: pd.DataFrame) -> str:
        tags = sorted(set(rows["paper_tag"]) - {""})
        legend = "".join(f" [{tag}]: {TAGS[tag]}." for tag in tags)
        return f"{_QUALITY_NOTE} Scored on {self.evaluated[task]}.{legend}"
