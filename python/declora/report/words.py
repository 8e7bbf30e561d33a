"""Says in whole sentences what a run, a comparison and each of their figures show."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from declora.metrics import METRICS, Metric
from declora.report.beside import Beside
from declora.report.records import (
    best_measured,
    column,
    last_measured,
    metric_of,
    phase_seconds,
    total_bytes,
)
from declora.report.tables import cut, format_bytes, format_seconds, format_value

__all__ = [
    "of_bytes",
    "of_clients",
    "of_comparison",
    "of_course",
    "of_ends",
    "of_graph",
    "of_labels",
    "of_phases",
    "of_quality",
    "of_run",
    "of_seconds",
]

_RUNS = 8
"""Of more runs, no more are named in a sentence."""


def of_run(history: pd.DataFrame, baselines: Mapping[str, float], before: float) -> str:
    """Returns what a run has reached, beside what needs no training; empty where nothing was measured.

    Args:
        history: one row per round.
        baselines: scores that need no training, by name.
        before: the score of the common first adapter.
    """
    metric = metric_of(history)
    last = math.nan if metric is None else last_measured(history, metric.average)
    if metric is None or math.isnan(last):
        return ""
    end = f"After round {column(history, 'round')[-1]:.0f} the average of all clients' adapters has "
    end += f"{_article(metric)} of {format_value(metric.name, last)}"
    start = f", from {format_value(metric.name, before)} before any training" if math.isfinite(before) else ""
    beside = [f"{name} {format_value(metric.name, value)}" for name, value in baselines.items() if math.isfinite(value)]
    floor = f"; without a model: {', '.join(beside)}" if beside else ""
    known = [value for value in baselines.values() if math.isfinite(value)]
    warning = ""
    if known and (last <= max(known)) == metric.higher_is_better:
        warning = " That is no better than no model at all: train longer, or try another learning rate."
    return f"{end}{start}{floor}.{warning}"


def of_comparison(histories: Mapping[str, pd.DataFrame], metric: Metric | None, beside: Beside) -> str:
    """Returns in plain words what the runs of a comparison have reached, best first; empty where nothing was measured.

    Of a run whose clients never talk it is the mean of the clients' own models, as nobody has their average.

    Args:
        histories: history of each run under its label.
        metric: the headline.
        beside: what they are held against.
    """
    if metric is None:
        return ""
    sign = -1 if metric.higher_is_better else 1
    found = {
        label: last_measured(history, metric.clients("mean") if beside.alone.get(label) else metric.average)
        for label, history in histories.items()
    }
    order = sorted((label for label in found if math.isfinite(found[label])), key=lambda label: sign * found[label])
    if not order:
        return ""
    reached = []
    for label in order[:_RUNS]:
        alone, pooled = beside.alone.get(label), beside.pooled.get(label)
        who = " (mean of clients that train alone)" if alone else " (all data in one place)" if pooled else ""
        reached.append(f"{cut(label)}{who} {format_value(metric.name, found[label])}")
    others = f" and {len(order) - _RUNS} more" if len(order) > _RUNS else ""
    known = {name: value for name, value in beside.baselines.items() if math.isfinite(value)}
    floor = ", ".join(f"{name} {format_value(metric.name, value)}" for name, value in known.items())
    text = f"{metric.title} after the last round: {', '.join(reached)}{others}"
    return f"{text}{'; without a model: ' * bool(floor)}{floor}.{_of_gossip(histories, found, metric, beside)}"


def _of_gossip(
    histories: Mapping[str, pd.DataFrame],
    found: Mapping[str, float],
    metric: Metric,
    beside: Beside,
) -> str:
    """Returns what talking brought, where there are runs to hold it against: clients alone, and all data together.

    The averaged model is scored on other samples than the clients' own models: so these are held against each other,
    where all runs have them.
    """
    sign = 1 if metric.higher_is_better else -1
    own = {label: last_measured(histories[label], metric.clients("mean")) for label in found}
    same = all(math.isfinite(own[label]) for label, value in found.items() if math.isfinite(value))
    values, by = (own, " By the mean of clients' own models,") if same else (found, "")
    measured = {label: sign * value for label, value in values.items() if math.isfinite(value)}
    floor = [value for label, value in measured.items() if beside.alone.get(label)]
    roof = [value for label, value in measured.items() if beside.pooled.get(label)]
    texts = []
    for label, value in measured.items():
        if beside.alone.get(label) or beside.pooled.get(label) or not floor:
            continue
        sent = format_bytes(total_bytes(histories[label]))
        if value <= floor[0]:
            texts.append(f" Talking did not help here: {cut(label)} is no better than clients alone, and sent {sent}.")
        elif roof and roof[0] > floor[0]:
            share = min(1.0, (value - floor[0]) / (roof[0] - floor[0]))
            texts.append(
                f"{by} {cut(label)} gains {share:.0%} of what pooling all data would, and sent {sent} and no data."
            )
        else:
            gain = format_value(metric.name, abs(value - floor[0])).replace(" %", " points")
            texts.append(f"{by} {cut(label)} gains {gain} over clients alone, and sent {sent} and no data.")
    return "".join(texts[:_RUNS])


def of_quality(history: pd.DataFrame, before: float = math.nan) -> str:
    """Returns how the averaged model's score went."""
    metric = metric_of(history)
    if metric is None:
        return ""
    text = of_course(history, metric.average, f"{metric.title} of the averaged model", before)
    best, when = best_measured(history, metric.average, metric)
    return text and f"{text} The best is {format_value(metric.name, best)}, after round {when:.0f}."


def of_course(history: pd.DataFrame, name: str, what: str, before: float = math.nan) -> str:
    """Returns from where to where a column goes, and whether it rises; empty where it was not measured."""
    values, rounds = column(history, name), column(history, "round")
    keep = np.isfinite(values)
    if not keep.any():
        return ""
    values, rounds = values[keep], rounds[keep]
    if math.isfinite(before):
        values, rounds = np.append(before, values), np.append(0.0, rounds)
    first, last = format_value(name, values[0]), format_value(name, values[-1])
    if len(values) == 1:
        return f"{what} is {last} after round {rounds[-1]:.0f}."
    goes = "rises" if values[-1] > values[0] else "falls" if values[-1] < values[0] else "stays"
    return f"{what} {goes} from {first} after round {rounds[0]:.0f} to {last} after round {rounds[-1]:.0f}."


def of_clients(totals: pd.DataFrame | None, metric: Metric | None) -> str:
    """Returns who of the clients has the worst and who the best model of its own; empty where none was scored."""
    scores = np.empty(0) if totals is None or metric is None else column(totals, metric.name)
    if totals is None or metric is None or not np.isfinite(scores).any():
        return ""
    low, high = int(np.nanargmin(scores)), int(np.nanargmax(scores))
    who = column(totals, "client")
    ends = [f"{format_value(metric.name, scores[i])} (client {who[i]:.0f})" for i in (low, high)]
    return f"{metric.title} of the clients' own models goes from {ends[0]} to {ends[1]}."


def of_bytes(totals: pd.DataFrame | None) -> str:
    """Returns how much clients sent; empty where it was not counted."""
    sent = np.empty(0) if totals is None else column(totals, "bytes_sent")
    if not np.isfinite(sent).any():
        return ""
    low, high = format_bytes(float(np.nanmin(sent))), format_bytes(float(np.nanmax(sent)))
    return f"Each client sent {low} in all." if low == high else f"Clients sent {low} to {high} in all."


def of_phases(history: pd.DataFrame) -> str:
    """Returns what took how much of the time; empty where it was not measured."""
    phases = phase_seconds(history)
    total = sum(phases.values())
    if not total:
        return ""
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in phases.items())
    return f"The rounds took {format_seconds(total)}: {shares}."


def of_seconds(histories: Mapping[str, pd.DataFrame]) -> str:
    """Returns how long the rounds of each run took; empty where it was not measured."""
    found = {label: sum(phase_seconds(history).values()) for label, history in histories.items()}
    return _list("Time in the rounds", {label: format_seconds(value) for label, value in found.items() if value})


def of_ends(histories: Mapping[str, pd.DataFrame], name: str) -> str:
    """Returns the last value of a column in each run; empty where none was measured."""
    found = {label: last_measured(history, name) for label, history in histories.items()}
    what = {
        "bytes_total": "Bytes sent in all",
        "train_loss": "Training loss",
        "consensus_distance": "Distance to the mean",
    }
    metric = next((own for own in METRICS.values() if name in (own.average, own.clients("mean"))), None)
    if metric is not None:
        whose = "the averaged model" if name == metric.average else "the clients' own models, mean"
        what[name] = f"{metric.title} of {whose}"
    shown = {label: format_value(name, value) for label, value in found.items() if math.isfinite(value)}
    return _list(f"{what.get(name, name)} after the last round", shown)


def of_labels(counts: pd.DataFrame) -> str:
    """Returns how unlike the clients' data are, from a table with a column per class and their total at the end."""
    sizes = counts.iloc[:, -1].to_numpy(dtype=np.float64)
    text = f"{len(counts):,} clients have {sizes.min():,.0f} to {sizes.max():,.0f} samples"
    if counts.shape[1] <= 2 or not (sizes > 0).any():
        return f"{text}."
    classes = counts.iloc[:, :-1].to_numpy(dtype=np.float64)[sizes > 0]
    largest = (classes.max(axis=1) / sizes[sizes > 0]).mean()
    return f"{text}; a client's largest class is {largest:.0%} of its data on average."


def of_graph(name: str, heard: NDArray[np.integer], period: int, gap: float) -> str:
    """Returns how many each client hears in a round, and how fast values spread.

    Args:
        name: of the graph.
        heard: `[clients]`, how many others each hears in the first round.
        period: rounds after which the graphs come again.
        gap: the spectral gap.
    """
    low, high = int(heard.min()), int(heard.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    turns = f"; {period} graphs take turns" if period > 1 else ""
    return f"{len(heard):,} clients on {name}: each hears {each} of the others a round{turns}; spectral gap {gap:.3f}."


def _list(what: str, values: Mapping[str, str]) -> str:
    if not values:
        return ""
    named = [f"{cut(label)} {value}" for label, value in list(values.items())[:_RUNS]]
    more = f" and {len(values) - _RUNS} more" if len(values) > _RUNS else ""
    return f"{what}: {', '.join(named)}{more}."


def _article(metric: Metric) -> str:
    return f"{'an' if metric.label[0] in 'aeiouF' else 'a'} {metric.label}"
