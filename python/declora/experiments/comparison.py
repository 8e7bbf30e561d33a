"""Holds methods against each other, each with its own learning rate: `compare`."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from declora.config import OUTPUT, SETTINGS, SimulationConfig
from declora.errors import ConfigError, TrainingError, cut, shown
from declora.experiments.arguments import ALONE, parse_seeds
from declora.experiments.contents import Contents
from declora.experiments.experiment import Cell, Experiment
from declora.experiments.grid import run_grid
from declora.experiments.plan import Job, Plan, files_of, findable
from declora.experiments.reproduction import Reproduction
from declora.experiments.split import split_table
from declora.experiments.store import Finished, Store
from declora.experiments.table import quality_table
from declora.kinds import Choice, Place, Real
from declora.methods import build_method
from declora.notebook import displayed, table_html
from declora.report import RunFolder
from declora.report.records import common_metric, last_measured, total_bytes
from declora.settings import parse_overrides, to_toml

__all__ = ["MethodComparison", "compare"]

_TASK = "comparison"
_OWNED = OUTPUT | {name for name, setting in SETTINGS.items() if setting.shared} | {"seed", "rounds", "eval_data"}
"""Settings that are the whole comparison's."""


@dataclass(frozen=True, repr=False)
class MethodComparison(Reproduction):
    """Holds methods with the learning rate of each, and where that came from.

    Attributes:
        plan: What was run.
        finished: Each run's history and facts, by its key.
        rates: One row per method and learning rate that was tried: `row`, `learning_rate`, `score` (the headline
            metric after the last round, on rows held out of the training data; NaN where it was not measured, or
            training left the finite numbers), `score_of` (whose: `average`, or `clients`, the mean over their own
            models, of a method whose result these are) and `chosen`.
        budget: What is the same for all, `"work"` or `"bytes"`.
    """

    rates: pd.DataFrame
    budget: str

    def __iter__(self) -> Iterator[str]:
        """Yields the labels of the rows, the first of which the others are held against."""
        return iter(dict.fromkeys(job.cell.label for job in self.plan.jobs))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, label: str) -> "pd.Series[Any]":
        """Returns the row of the table that is called `label`."""
        table = self.table
        rows = [number for number, row in enumerate(table["row"]) if row == label]
        if not rows:
            raise KeyError(f"{label!r} is not one of the rows {list(self)}")
        return table.iloc[rows[0]]

    def plot(self) -> Figure:
        """Returns the course of all rows, mean over seeds; `figures()` has the others."""
        return displayed(next(iter(self.figures().values())))

    def __repr__(self) -> str:
        """Which rows, in one line."""
        return f"<MethodComparison of {len(self)} methods at the same {self.budget}: {cut(', '.join(self), 100)}>"

    def _repr_html_(self) -> str:
        table = quality_table(self.table)
        return table_html("Comparison of methods", list(table.columns), table.to_numpy().tolist())

    @property
    def settings(self) -> pd.DataFrame:
        """Returns the learning rate and the rounds of each row."""
        jobs = {job.cell.label: job.config for job in self.plan.jobs}
        rows = [(label, f"{own.learning_rate:g}", own.rounds) for label, own in jobs.items()]
        return pd.DataFrame(rows, columns=["row", "learning rate", "rounds"])

    @property
    def choices(self) -> pd.DataFrame:
        """Returns what was decided for all rows (`open`), and how (`ours`)."""
        same = {
            "work": "rounds and local steps",
            "bytes": "bytes sent in all, about: rounds are those in which a method sends what the first one does; one "
            "that sends nothing has the first one's rounds",
        }
        first = min(self.plan.seeds)
        how = (
            f"the best of those tried with seed {first}, on rows held out of the training data (eval_fraction), by the "
            "score of the averaged model, or, where each client's own model is a method's result, by the mean of theirs"
        )
        rows = [("the same for all rows", same[self.budget]), ("learning rate of a row", how)]
        rows.append(
            (
                "split training (arXiv 2501.04436), which is not run",
                "2 K b l h float32 numbers of a client in a round: activations of K steps on b texts of l tokens, at a "
                "cut between blocks of width h, up to a server, and their gradients back",
            )
        )
        if self.budget == "bytes":
            rows.append(("rounds while learning rates were tried", "those of the settings, for all"))
        return pd.DataFrame(rows, columns=["open", "ours"])

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Returns what else the page shows, by the heading above it."""
        tried = self.rates.assign(learning_rate=[f"{rate:g}" for rate in self.rates["learning_rate"]])
        return {
            "What each row ran with": self.settings,
            "Learning rates": tried,
            "What split training would send": split_table(self.plan, self.finished),
            "How it was decided": self.choices,
        }


def compare(
    methods: str | Sequence[str | Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    *,
    config: SimulationConfig | None = None,
    seeds: int | Sequence[int] = 3,
    budget: str = "work",
    rates: Sequence[float] | None = None,
    out: str | Path = "runs/compare",
    progress: bool | None = None,
    **settings: Any,
) -> MethodComparison:
    """Runs methods with the same seeds, data and graph, each with its own learning rate, and makes one table of them.

    A learning rate is chosen on rows held out of the training data, never on those that the table is about. Finished
    runs are kept in `out/cells` under a name made of all their settings: what was interrupted goes on when called
    again.

    Args:
        methods: As `compare` of `simulate`: names with overrides (`["dec-lora", "decaf codec=none"]`), or labels with
            their settings. Differences are to the first. One that sets `learning_rate` keeps it.
        config: Settings of every run; the defaults of `SimulationConfig` where None.
        seeds: How many (0, 1, ...), or which. The first one chooses learning rates.
        budget: What is the same for all: `"work"`, rounds and local steps, or `"bytes"`, about what the first method
            sends in its rounds.
        rates: Learning rates to choose from; None: half of that of the settings, it, and twice it.
        out: Folder of runs and tables.
        progress: False shows nothing.
        **settings: Settings to change; `SimulationConfig` documents each.

    Returns:
        The table with all that it was made from; `out/comparison` holds it as Markdown, CSV, HTML and figures.

    Raises:
        ConfigError, TopologyError, DataError, ModelError, CodecError, RunFolderError: A run cannot be run; it is named,
            and nothing was trained.
        TrainingError: A run failed, or those of one row with every learning rate; what had finished stays.
    """
    out, budget = str(Place().check("out", out)), str(Choice(("work", "bytes")).check("budget", budget))
    if owned := sorted(settings.keys() & (OUTPUT | {"compare", "seed", "method"})):
        raise ConfigError(
            f"{owned[0]}={shown(settings[owned[0]])} is no setting of compare, or an argument of its own."
        )
    base = (config or SimulationConfig()).override(**settings).override(**ALONE)
    chosen = parse_seeds(seeds)
    cells = _cells(methods)
    grid = _rates(rates, base)
    contents = Contents()
    command = _command(cells, base, seeds=chosen, budget=budget, rates=grid)

    def plan(configs: Sequence[tuple[Cell, SimulationConfig]]) -> Plan:
        jobs = [Job(_TASK, cell, findable(own), files_of(own, contents)) for cell, own in configs]
        return Plan(_experiment(cells), "as the settings say", "steps", False, tuple(jobs), command)

    each = {cell.label: base.override(**cell.settings, seed=chosen[0]) for cell in cells}
    tried = {
        cell.label: [own.learning_rate] if "learning_rate" in cell.settings else grid
        for cell, own in zip(cells, each.values(), strict=True)
    }
    trials = [
        (cell, each[cell.label].override(learning_rate=rate, eval_data="held-out"))
        for cell in cells
        for rate in tried[cell.label]
    ]
    tuning = plan(trials if budget == "bytes" or any(len(own) > 1 for own in tried.values()) else [])
    tables = Path(out) / _TASK
    RunFolder.check(tables, overwrite=True)  # before hours of training
    store = Store(Path(out) / "cells")
    failed: dict[str, TrainingError] = {}
    finished = run_grid(tuning, store, progress=progress, failed=failed)
    scores = _scores(tuning, finished)
    _check_rates_left(tuning, failed)
    best = {cell.label: _best(scores, cell.label, tried[cell.label]) for cell in cells}
    rounds = {cell.label: base.rounds for cell in cells}
    if budget == "bytes":
        rounds = _rounds(tuning, finished, base.rounds)
    final = plan(
        [
            (cell, each[cell.label].override(seed=seed, learning_rate=best[cell.label], rounds=rounds[cell.label]))
            for seed in chosen
            for cell in cells
        ]
    )
    scores = scores.drop(columns="more_is_better")
    scores["chosen"] = [best[row] == rate for row, rate in zip(scores["row"], scores["learning_rate"], strict=True)]
    found = MethodComparison(final, run_grid(final, store, progress=progress), scores, budget)
    found.write(tables)
    return found


def _cells(methods: Any) -> list[Cell]:
    """Returns a row for each method; differences are to the first."""
    rows = parse_overrides(methods)
    for label, changes in rows.items():
        if owned := sorted(changes.keys() & _OWNED):
            raise ConfigError(f"methods: {label!r} sets {owned[0]}, which is the same for all rows. Set it there.")
    first = next(iter(rows))
    return [Cell(label, changes, "" if label == first else first) for label, changes in rows.items()]


def _rates(rates: Sequence[float] | None, base: SimulationConfig) -> list[float]:
    given = [base.learning_rate * times for times in (0.5, 1.0, 2.0)] if rates is None else list(rates)
    if not given:
        raise ConfigError("rates=[] has no learning rate to choose. Give at least one, or leave it out.")
    return [float(Real(above=0).check("rates", rate)) for rate in dict.fromkeys(given)]


def _given(cells: list[Cell], grid: Any) -> list[Cell]:
    """Returns the cells of any grid; a function, so that comparisons can be pickled."""
    return cells


def _experiment(cells: list[Cell]) -> Experiment:
    return Experiment(
        "compare",
        "Methods, each with its own learning rate",
        "What do methods gain or lose against the first, and what do they send?",
        partial(_given, cells),
    )


def _command(cells: list[Cell], base: SimulationConfig, **arguments: Any) -> str:
    """Returns the command line of a comparison whose rows are named by their labels."""
    words = ["declora", "compare", "--methods", ",".join(cell.label for cell in cells)]
    for name, value in arguments.items():
        listed = json.dumps(value) if name == "seeds" else ",".join(map(str, value))  # [3] is one seed, 3 are three
        words += [f"--{name}", value if isinstance(value, str) else listed]
    usual = SimulationConfig().describe()
    for name, value in base.describe().items():
        if value != usual[name]:
            text = "none" if value is None else value if isinstance(value, str) else to_toml(value)
            words += ["--set", f"{name}={text}"]
    return shlex.join(words)


def _scores(plan: Plan, runs: Mapping[str, Finished]) -> pd.DataFrame:
    """Returns the headline metric after the last round of each learning rate that was tried.

    It is that of the averaged model; of a method whose result clients' own models are, the mean of theirs, unless the
    settings have these scored on nothing.
    """
    rows = []
    for job in plan.jobs:
        history = runs[job.key].history if job.key in runs else pd.DataFrame()
        metric = common_metric([history])
        own = build_method(job.config.method).own_scores and job.config.client_eval_samples != 0
        score = math.nan
        if metric is not None:
            score = last_measured(history, metric.clients("mean") if own else metric.average)
        of, more = "clients" if own else "average", metric is None or metric.higher_is_better
        rows.append((job.cell.label, job.config.learning_rate, score, of, more))
    return pd.DataFrame(rows, columns=["row", "learning_rate", "score", "score_of", "more_is_better"])


def _check_rates_left(plan: Plan, failed: Mapping[str, TrainingError]) -> None:
    for label in dict.fromkeys(job.cell.label for job in plan.jobs):
        errors = [failed.get(job.key) for job in plan.jobs if job.cell.label == label]
        if all(errors):
            raise TrainingError(f"{errors[0]} So it was with all learning rates of {label!r}. Give smaller `rates`.")


def _best(scores: pd.DataFrame, label: str, tried: Sequence[float]) -> float:
    """Returns the learning rate of the best score; of equal ones the smallest, and the only one where it is alone."""
    own = scores[(scores["row"] == label) & scores["score"].notna()]
    if own.empty:
        return tried[0]
    signs = own["more_is_better"].map({True: -1.0, False: 1.0})
    order = own.assign(loss=signs * own["score"]).sort_values(["loss", "learning_rate"], kind="stable")
    return float(order["learning_rate"].iloc[0])


def _rounds(plan: Plan, runs: Mapping[str, Finished], rounds: int) -> dict[str, int]:
    """Returns in how many rounds each row sends about as much as the first does in `rounds`, from what runs sent."""
    sent = {job.cell.label: total_bytes(runs[job.key].history) for job in plan.jobs if job.key in runs}
    first = next(iter(sent.values()))
    return {label: max(1, round(rounds * first / own)) if own > 0 < first else rounds for label, own in sent.items()}
