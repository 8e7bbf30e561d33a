"""Draws the figures of an experiment: its rows over each other, means over seeds with bands of a standard deviation."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from declora.data import Partition
from declora.experiments.plan import Plan
from declora.experiments.store import Finished
from declora.report import CARD, house_style, plot_topology, schedule_figure, topology_figure, words
from declora.report.graph import Edges
from declora.report.panels import plot_consensus, plot_quality, plot_quality_by_bytes
from declora.report.plots import Panel
from declora.report.records import column, metric_of
from declora.report.style import Look, looks_of
from declora.topology import Topology

__all__ = ["course", "figures", "looks", "mean_history", "pictures"]

_COLUMNS = ("round", "train_loss", "consensus_distance", "bytes_total")
_WORK = ("local_steps", "local_epochs", "rounds")
"""Settings of a row that say how much it trains between two messages, and how often, not what it is."""
_TURNS = ("one-peer-exponential", "base")
"""Graphs that change from round to round; their names say all of them."""
_ROUNDS = 4
"""So many rounds of these are shown."""
_ACROSS = 3
"""Graphs side by side; a row of more is too wide for letters to be read."""


def figures(plan: Plan, runs: Mapping[str, Finished]) -> dict[str, Figure]:
    """Returns the figures by a name for their file: the course of each task, the graphs, and who has which labels."""
    drawn = {task: _course(plan, runs, task) for task in plan.tasks}
    if graphs := _graphs_of(plan, runs):
        drawn["topology"] = _graphs(graphs)
    shares = _shares(plan, runs)
    if len(shares) > len(plan.tasks):  # some rows divide the data in another way
        drawn["labels"] = _labels(shares)
    return drawn


def pictures(plan: Plan, runs: Mapping[str, Finished]) -> list[tuple[str, Figure]]:
    """Returns the graphs, and who has which labels, each as a figure of its own with what is to be seen in it."""
    drawn: list[tuple[str, Figure]] = []
    for run in _graphs_of(plan, runs).values():
        facts, rounds = run.facts, _rounds(run)
        name, clients, gap = facts["graph"], facts["clients"], facts["spectral_gap"]
        if len(rounds) > 1:
            says = f"{clients} clients on {name}: the graphs of the first {len(rounds)} rounds; spectral gap {gap:.3f}."
            drawn.append((says, schedule_figure(clients, rounds)))
        else:
            says = f"{clients} clients on {name}: {facts['links_total']} pairs talk; spectral gap {gap:.3f}."
            drawn.append((says, topology_figure(clients, rounds[0], links=facts["links_total"])))
    shares = _shares(plan, runs)
    for (task, partition), run in shares.items() if len(shares) > len(plan.tasks) else ():
        says = f"{task}, {partition or 'iid'}: {words.of_labels(pd.DataFrame(run.facts['labels']))}"
        with house_style():
            figure = Figure(figsize=CARD, layout="constrained")
            _share(figure.subplots(), task, partition, run)
        drawn.append((says, figure))
    return drawn


def looks(plan: Plan, runs: Mapping[str, Finished], task: str) -> dict[str, Look]:
    """Returns how each row of a task is drawn: a colour for what it is, a dash for its local work."""
    kinds, works = {}, {}
    for job in plan.jobs:
        if job.task == task:
            own = {name: value for name, value in job.cell.settings.items() if name not in _WORK}
            kinds[job.cell.label] = repr(sorted(own.items()))
            works[job.cell.label] = runs[job.key].facts["local_work"]
    return looks_of(list(kinds), kinds, works)


def course(plan: Plan, runs: Mapping[str, Finished], task: str) -> list[Panel]:
    """Returns what to draw of the rows of a task, over each other."""
    rows: dict[str, list[pd.DataFrame]] = {}
    for job in plan.jobs:
        if job.task == task:
            rows.setdefault(job.cell.label, []).append(runs[job.key].history)
    means = {label: mean_history(histories) for label, histories in rows.items()}
    drawn = looks(plan, runs, task)
    sent = [total for mean in means.values() if (total := column(mean, "bytes_total")[-1]) > 0]
    far_apart = bool(sent and max(sent) > 4 * min(sent))

    def each(panel: "partial[None]", ax: Axes) -> None:
        for label, mean in means.items():
            panel(ax, mean, label=label, look=drawn[label])

    metric = next((found for mean in means.values() if (found := metric_of(mean))), None)
    apart = len(set(sent)) > 1
    panels = (
        ("Quality by round", metric.average if metric else "", partial(plot_quality), True),
        ("Quality by bytes sent", "bytes_total", partial(plot_quality_by_bytes, log=far_apart), apart),
        ("Consensus distance by round", "consensus_distance", partial(plot_consensus), True),
    )
    return [
        Panel(name, words.of_ends(means, shown), partial(each, draw), named=True, news=news)
        for name, shown, draw, news in panels
    ]


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
    with house_style():
        figure = Figure(figsize=(12, 4.4), layout="constrained")
        axes = figure.subplots(1, 3)
        for ax, panel in zip(axes, course(plan, runs, task), strict=True):
            panel.draw(ax)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, fontsize=10)
    return figure


def _graphs_of(plan: Plan, runs: Mapping[str, Finished]) -> dict[str, Finished]:
    """Returns a run on each graph, by the graph's name and size."""
    graphs: dict[str, Finished] = {}
    for job in plan.jobs:
        facts = runs[job.key].facts
        if facts["graph"]:
            graphs.setdefault(f"{facts['graph']}, {facts['clients']} clients", runs[job.key])
    return graphs


def _shares(plan: Plan, runs: Mapping[str, Finished]) -> dict[tuple[str, object], Finished]:
    """Returns a run with each way to divide the data of a task, of the first seed."""
    shares: dict[tuple[str, object], Finished] = {}
    for job in plan.jobs:
        if job.config.seed == plan.seeds[0]:
            shares.setdefault((job.task, job.config.partition), runs[job.key])
    return shares


def _rounds(run: Finished) -> Sequence[Edges]:
    """Returns who talks to whom in the first rounds of a graph that changes, or in any round of one that does not."""
    name, clients = run.facts["graph"], run.facts["clients"]
    if name.partition(":")[0] not in _TURNS:
        return [np.asarray(run.facts["links"], dtype=np.int64).reshape(-1, 2)]
    topology = Topology.build(name, clients)
    return [topology.round(t) for t in range(min(topology.period, _ROUNDS))]


def _graphs(runs: Mapping[str, Finished]) -> Figure:
    shown = []
    for title, run in runs.items():
        gap, rounds = f"spectral gap {run.facts['spectral_gap']:.3f}", _rounds(run)
        for number, edges in enumerate(rounds, start=1):
            of = f", round {number}" if len(rounds) > 1 else ""
            links = run.facts["links_total"] if len(rounds) == 1 else None
            shown.append((f"{title}\n{gap}{of}", run.facts["clients"], edges, links))
    across = min(len(shown), _ACROSS)
    down = -(-len(shown) // across)
    with house_style():
        figure = Figure(figsize=(3.8 * across, 4.4 * down), layout="constrained")
        for place, (title, clients, edges, links) in enumerate(shown, start=1):
            ax = figure.add_subplot(down, across, place)
            plot_topology(ax, clients, edges, links=links, title=title)
    return figure


def _labels(runs: Mapping[tuple[str, object], Finished]) -> Figure:
    with house_style():
        figure = Figure(figsize=(5.4 * len(runs), 3.2), layout="constrained")
        for place, ((task, partition), run) in enumerate(runs.items(), start=1):
            _share(figure.add_subplot(1, len(runs), place), task, partition, run)
    return figure


def _share(ax: Axes, task: str, partition: object, run: Finished) -> None:
    Partition(f"{task}: {partition or 'iid'}", (), pd.DataFrame(run.facts["labels"])).plot(ax)
