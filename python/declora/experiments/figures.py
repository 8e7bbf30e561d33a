"""Draws the figures of an experiment: its rows over each other, means over seeds with bands of a standard deviation."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from declora.data import Partition
from declora.experiments.plan import Plan
from declora.experiments.store import Finished
from declora.report import house_style, plot_topology
from declora.report.panels import plot_consensus, plot_quality, plot_quality_by_bytes
from declora.report.records import column, metric_of

__all__ = ["figures", "mean_history"]

_COLUMNS = ("round", "train_loss", "consensus_distance", "bytes_total")


def figures(plan: Plan, runs: Mapping[str, Finished]) -> dict[str, Figure]:
    """Returns the figures by a name for their file: the course of each task, the graphs, and who has which labels."""
    drawn = {task: _course(plan, runs, task) for task in plan.tasks}
    graphs: dict[str, Finished] = {}
    shares: dict[tuple[str, object], Finished] = {}
    for job in plan.jobs:
        run = runs[job.key]
        if run.facts["graph"]:
            graphs.setdefault(f"{run.facts['graph']}, {run.facts['clients']} clients", run)
        if job.config.seed == plan.seeds[0]:
            shares.setdefault((job.task, job.config.partition), run)
    if graphs:
        drawn["topology"] = _graphs(graphs)
    if len(shares) > len(plan.tasks):  # some rows divide the data in another way
        drawn["labels"] = _labels(shares)
    return drawn


def mean_history(histories: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns the mean over several runs of one row, round by round, in the form of a history.

    The columns `clients_<metric>_min` and `_max`, which panels draw as a band, hold the mean of the averaged model less
    and plus one standard deviation (of the sample; 0 of a single run).
    """
    metric = metric_of(histories[0])
    mean = {name: np.mean([column(history, name) for history in histories], axis=0) for name in _COLUMNS}
    if metric is None:
        return pd.DataFrame(mean)
    scores = np.array([column(history, metric.average) for history in histories])
    spread = scores.std(axis=0, ddof=1) if len(scores) > 1 else np.zeros(scores.shape[1])
    middle = scores.mean(axis=0)
    band = {metric.clients("min"): middle - spread, metric.clients("max"): middle + spread}
    return pd.DataFrame({**mean, "metric": metric.name, metric.average: middle, **band})


def _course(plan: Plan, runs: Mapping[str, Finished], task: str) -> Figure:
    rows: dict[str, list[pd.DataFrame]] = {}
    for job in plan.jobs:
        if job.task == task:
            rows.setdefault(job.cell.label, []).append(runs[job.key].history)
    means = {label: mean_history(histories) for label, histories in rows.items()}
    sent = [total for mean in means.values() if (total := column(mean, "bytes_total")[-1]) > 0]
    far_apart = bool(sent) and max(sent) > 4 * min(sent)
    with house_style():
        figure = Figure(figsize=(12, 4.4), layout="constrained")
        quality, by_bytes, consensus = figure.subplots(1, 3)
        for index, (label, mean) in enumerate(means.items()):
            plot_quality(quality, mean, label=label, index=index)
            plot_quality_by_bytes(by_bytes, mean, label=label, index=index, log=far_apart)
            plot_consensus(consensus, mean, label=label, index=index)
        handles, labels = quality.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, fontsize=9.5)
    return figure


def _graphs(runs: Mapping[str, Finished]) -> Figure:
    with house_style():
        figure = Figure(figsize=(3.8 * len(runs), 4.1), layout="constrained")
        for ax, (title, run) in zip(_axes(figure, len(runs)), runs.items(), strict=True):
            facts = run.facts
            full = f"{title}\nspectral gap {facts['spectral_gap']:.3f}"
            plot_topology(ax, facts["clients"], facts["links"], links=facts["links_total"], title=full)
    return figure


def _labels(runs: Mapping[tuple[str, object], Finished]) -> Figure:
    with house_style():
        figure = Figure(figsize=(5.4 * len(runs), 3.2), layout="constrained")
        for ax, ((task, partition), run) in zip(_axes(figure, len(runs)), runs.items(), strict=True):
            Partition(f"{task}: {partition or 'iid'}", (), pd.DataFrame(run.facts["labels"])).plot(ax)
    return figure


def _axes(figure: Figure, count: int) -> list[Axes]:
    return list(np.atleast_1d(figure.subplots(1, count)))
