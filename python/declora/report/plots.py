"""Draws figures of one run and of several, from the history alone: plain `Figure` objects, no global state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from declora.errors import ConfigError
from declora.report import words
from declora.report.axes import legend_above, name_ends
from declora.report.bars import plot_bytes_per_client, plot_clients, plot_phases, plot_total_seconds
from declora.report.panels import plot_baselines, plot_consensus, plot_loss, plot_quality, plot_quality_by_bytes
from declora.report.records import client_totals, column, common_metric, last_measured, metric_of, total_bytes
from declora.report.style import CARD, Look, house_style, looks_of

__all__ = ["Panel", "card", "comparison_figure", "comparison_panels", "run_figure", "run_panels"]

_NAMED = 6
"""Of more runs, lines have no names at their ends."""


@dataclass(frozen=True)
class Panel:
    """One panel that has its data.

    Attributes:
        name: what it shows.
        says: what is to be seen in it, a sentence; empty where nothing was measured.
        draw: needs only an axes.
        named: whether its lines are runs, which get their names at the ends.
        news: whether it shows something that no other panel does.
    """

    name: str
    says: str
    draw: Callable[[Axes], None]
    named: bool = False
    news: bool = True


def run_figure(history: pd.DataFrame, clients: pd.DataFrame | None = None) -> Figure:
    """Returns one run as six panels: quality by round, clients' own models, loss, consensus, time, bytes by client.

    Args:
        history: one row per round.
        clients: one row per round and client; adds the models, the band of losses and the bytes of each.
    """
    return _six(run_panels(history, clients))


def comparison_figure(histories: Mapping[str, pd.DataFrame], looks: Mapping[str, Look] | None = None) -> Figure:
    """Returns several runs over each other, in six panels with one legend.

    Args:
        histories: history of each run under its label, drawn in this order.
        looks: how each is drawn, by label; see `style.looks_of`.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    figure = _six(comparison_panels(histories, looks))
    with house_style():
        found = (ax.get_legend_handles_labels() for ax in figure.axes[:5])
        # A run may lack one measure: the panel with most lines names the runs.
        handles, labels = max(found, key=lambda pair: len(pair[0]))
        if handles:
            columns = min(len(handles), 6)
            figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=10.5)
    return figure


def card(panel: Panel) -> Figure:
    """Returns one panel as a figure of its own, whose letters are those of the page also on a phone.

    Where its lines are runs, and few, they have their names at their ends.
    """
    with house_style():
        figure = Figure(figsize=CARD, layout="constrained")
        ax = figure.add_subplot()
        panel.draw(ax)
        if panel.named and sum(not str(line.get_label()).startswith("_") for line in ax.lines) <= _NAMED:
            name_ends(ax)
    return figure


def run_panels(
    history: pd.DataFrame,
    clients: pd.DataFrame | None = None,
    *,
    baselines: Mapping[str, float] | None = None,
    before: float = np.nan,
) -> list[Panel]:
    """Returns what to draw for one run.

    Args:
        history: one row per round.
        clients: one row per round and client.
        baselines: what needs no training, by name; see `plot_baselines`.
        before: what the common first adapter scored.
    """
    metric = metric_of(history)
    totals = client_totals(clients) if clients is not None and len(clients) else None
    average = last_measured(history, metric.average) if metric else np.nan

    def quality(ax: Axes) -> None:
        plot_quality(ax, history, before=before)
        plot_baselines(ax, baselines or {}, metric)
        legend_above(ax)

    sent = np.empty(0) if totals is None else column(totals, "bytes_sent")
    return [
        Panel("Quality by round", words.of_quality(history, before), quality),
        Panel(
            "Clients' own models",
            words.of_clients(totals, metric),
            lambda ax: plot_clients(ax, totals, metric, average),
            news=totals is not None and len(totals) > 1,
        ),
        Panel(
            "Training loss by round",
            words.of_course(history, "train_loss", "The mean training loss"),
            lambda ax: plot_loss(ax, history, clients=clients),
        ),
        Panel(
            "Consensus distance by round",
            words.of_course(history, "consensus_distance", "The clients' distance to their mean"),
            lambda ax: plot_consensus(ax, history),
            news=bool((column(history, "consensus_distance") > 0).any()),
        ),
        Panel("Seconds by phase", words.of_phases(history), lambda ax: plot_phases(ax, history)),
        Panel(
            "Bytes by client",
            words.of_bytes(totals),
            lambda ax: plot_bytes_per_client(ax, clients),
            news=len(np.unique(sent)) > 1,
        ),
    ]


def comparison_panels(
    histories: Mapping[str, pd.DataFrame],
    looks: Mapping[str, Look] | None = None,
    *,
    baselines: Mapping[str, float] | None = None,
    before: float = np.nan,
) -> list[Panel]:
    """Returns what to draw for several runs.

    The clients' bands are drawn for one or two runs; more of them would hide each other.

    Args:
        histories: history of each run under its label, drawn in this order.
        looks: how each is drawn, by label.
        baselines: what needs no training, by name; see `plot_baselines`.
        before: what the common first adapter scored.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    if not histories:
        raise ConfigError("histories={} holds no run to compare: give at least one.")
    metric = common_metric(histories.values())
    drawn = looks_of(list(histories)) if looks is None else looks
    totals = [total for history in histories.values() if (total := total_bytes(history)) > 0]
    far_apart = bool(totals and max(totals) > 4 * min(totals))
    band = len(histories) <= 2

    def each(panel: Callable[..., None], ax: Axes) -> None:
        for index, (label, history) in enumerate(histories.items()):
            # matplotlib leaves a name that begins with an underscore out of the legend.
            name = f" {label}" if label.startswith("_") else label or f"run {index + 1}"
            panel(ax, history, label=name, look=drawn[label])

    def quality(ax: Axes, *, own: bool = False) -> None:
        each(partial(plot_quality, band=band and not own, own=own, before=before), ax)
        plot_baselines(ax, baselines or {}, metric)

    average, mean = (metric.average, metric.clients("mean")) if metric else ("", "")
    return [
        Panel("Quality by round", words.of_ends(histories, average), quality, named=True),
        Panel(
            "Quality by round, clients' mean",
            words.of_ends(histories, mean),
            partial(quality, own=True),
            named=True,
            news=any(np.isfinite(last_measured(history, mean)) for history in histories.values()),
        ),
        Panel(
            "Quality by bytes sent",
            words.of_ends(histories, "bytes_total"),
            partial(each, partial(plot_quality_by_bytes, band=band, log=far_apart)),
            named=True,
            news=bool(totals) and max(totals) > 1.01 * min(totals),
        ),
        Panel("Training loss by round", words.of_ends(histories, "train_loss"), partial(each, plot_loss), named=True),
        Panel(
            "Consensus distance by round",
            words.of_ends(histories, "consensus_distance"),
            partial(each, plot_consensus),
            named=True,
            news=any((column(history, "consensus_distance") > 0).any() for history in histories.values()),
        ),
        Panel("Seconds by phase", words.of_seconds(histories), lambda ax: plot_total_seconds(ax, histories)),
    ]


def _six(panels: Sequence[Panel]) -> Figure:
    with house_style():
        figure = Figure(figsize=(12, 6.75), layout="constrained")
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)  # type: ignore[call-arg]
        for ax, panel in zip(figure.subplots(2, 3).ravel(), panels, strict=True):
            panel.draw(ax)
    return figure
