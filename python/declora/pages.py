"""Says what the page of a run and that of a comparison show: figures, sentences, tables, code, from their results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from declora import report
from declora.config import SimulationConfig
from declora.report import words
from declora.report.messages import source_name
from declora.result import Comparison, SimulationResult

__all__ = ["comparison_title", "run_summary", "run_title"]

_CLASSES = 20
"""Of more classes, no more are in a picture."""
_ROUNDS = 4
"""Of a graph that changes from round to round, so many are shown."""
_VECTOR = 400
"""The bands of more clients than this are kept as a picture, not as shapes."""


def run_summary(result: SimulationResult, title: str) -> report.RunSummary:
    """Returns what a report page shows of this run."""
    figures = [("Labels by client", _partition_figure(result))]
    says = {"Labels by client": words.of_labels(result.partition.counts)}
    if not result.federation.exchange.silent:
        topology = result.federation.topology
        rounds = [topology.round(t) for t in range(min(topology.period, _ROUNDS))]
        several = len(rounds) > 1
        draw = report.schedule_figure(topology.clients, rounds) if several else None
        figures.insert(0, ("Who talks to whom", draw or report.topology_figure(topology.clients, rounds[0])))
        says["Who talks to whom"] = words.of_graph(
            topology.name, rounds[0].degrees, topology.period, topology.spectral_gap
        )
    usual, asked, config = SimulationConfig().describe(), result.config.describe(), result.settings
    del config["out"]  # which is where the page is
    return report.RunSummary(
        title=title,
        config=config,
        history=result.history,
        clients=result.clients,
        local_work=result.local_work,
        facts=result.facts(),
        figures=figures,
        says=says,
        tables=[("Samples by client and label", _label_counts(result))],
        environment=result.environment,
        usage=result.average.loading_code("adapters/average"),
        rerun="declora simulate --config config.json",
        usual=[name for name in config if asked.get(name) == usual.get(name)],
        baselines=result.baselines,
        before=result.before,
        norm=result.norm,
    )


def run_title(result: SimulationResult) -> str:
    """Returns what was trained on what by whom, in one line: `minilm on sst2, ring of 10 clients`."""
    federation = result.federation
    several = f"{federation.clients} client{'s' * (federation.clients != 1)}"
    who = several if federation.exchange.silent else f"{federation.topology.name} of {several}"
    return f"{_name(result.config.model)} on {_name(result.config.data)}, {who}"


def comparison_title(comparison: Comparison) -> str:
    """Returns what was trained on what, in one line; what differs is named once each."""
    results = comparison.results.values()
    subjects = dict.fromkeys(f"{_name(own.config.model)} on {_name(own.config.data)}" for own in results)
    clients = max(own.federation.clients for own in results)
    return f"{'; '.join(subjects)}, {clients} client{'s' * (clients != 1)}"


def _label_counts(result: SimulationResult) -> pd.DataFrame:
    counts = result.partition.counts.copy()
    if result.federation.topology.names is not None:
        counts.insert(0, "name", result.federation.topology.names, allow_duplicates=True)
    counts.insert(0, "client", counts.index, allow_duplicates=True)  # a class may be called that, too
    return counts


def _partition_figure(result: SimulationResult) -> Figure:
    with report.house_style():
        shown = replace(result.partition, counts=_few_classes(result.partition.counts))
        # The legend is below the axes, as a phone has no room beside them.
        lines = shown.counts.shape[1] // 2
        figure = Figure(figsize=(report.CARD[0], 3.4 + 0.2 * lines), layout="constrained")
        axes = shown.plot(figure.subplots())
        if (beside := axes.get_legend()) is not None:
            names = [text.get_text() for text in beside.get_texts()]
            beside.remove()
            handles = [handle for handle in beside.legend_handles if handle is not None]
            figure.legend(handles, names, loc="outside lower left", ncols=2, handlelength=0.8)
        axes.tick_params(labelsize=10)
        for band in axes.collections:
            band.set_rasterized(len(shown.counts) > _VECTOR)  # else a page grows with every client and class
    return figure


def _few_classes(counts: pd.DataFrame) -> pd.DataFrame:
    """Returns label counts with names and classes that a legend has room for: the largest, and the others as one."""
    classes = counts.iloc[:, :-1]
    order = np.argsort(-classes.sum().to_numpy(), kind="stable")
    kept = np.sort(order[: _CLASSES - 1] if len(order) > _CLASSES else order)
    few = classes.iloc[:, kept].set_axis([report.cut(str(classes.columns[i]), 30) for i in kept], axis=1)
    if len(kept) < len(order):
        others = np.delete(classes.to_numpy(), kept, axis=1).sum(axis=1)
        few.insert(len(kept), f"{len(order) - len(kept):,} others", others, allow_duplicates=True)
    few.insert(few.shape[1], "total", counts.iloc[:, -1], allow_duplicates=True)
    return few


def _name(source: object) -> str:
    """Returns what data or a model are called, without where they are on this machine."""
    text = source_name(source)
    return Path(text).name if isinstance(source, str | Path) and Path(text).is_absolute() else text
