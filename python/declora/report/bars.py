"""Draws single panels of bars and points: what each phase, each client and each run took or reached."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator

from declora.metrics import Metric
from declora.report.axes import bytes_axis, legend_above, not_measured, rounds_axis, short
from declora.report.records import PHASES, column, phase_seconds
from declora.report.style import MUTED, PHASE_COLORS, SERIES
from declora.report.tables import format_seconds

__all__ = ["plot_bytes_per_client", "plot_clients", "plot_phases", "plot_total_seconds"]

_BARS = 60
"""More rounds or clients than this are drawn as one area instead of bars."""


def plot_phases(ax: Axes, history: pd.DataFrame) -> None:
    """Draws the seconds of each round, stacked by phase; the legend gives each phase's total."""
    ax.set(title="Time by phase", ylabel="seconds per round")
    ax.grid(axis="x", visible=False)
    rounds_axis(ax)
    totals = phase_seconds(history)
    if not totals:
        not_measured(ax)
        return
    rounds, bottom = column(history, "round"), np.zeros(len(history))
    values = [np.nan_to_num(column(history, f"seconds_{phase}")) for phase in totals]
    labels = [f"{phase} {format_seconds(seconds)}" for phase, seconds in totals.items()]
    colors = [PHASE_COLORS[phase] for phase in totals]
    if len(history) > _BARS:
        ax.stackplot(rounds, values, labels=labels, colors=colors)
        bottom = np.sum(values, axis=0)
    else:
        for value, label, color in zip(values, labels, colors, strict=True):
            ax.bar(rounds, value, bottom=bottom, width=0.78, color=color, label=label)
            bottom = bottom + value
        ax.set_xlim(rounds.min() - 0.6, rounds.max() + 0.6)
    rows = (len(totals) + 1) // 2
    ax.set_ylim(0, max(float(bottom.max()), 1e-9) * (1.1 + 0.17 * rows))  # room for the legend
    ax.legend(loc="upper left", ncols=2, handlelength=0.8)


def plot_clients(ax: Axes, clients: pd.DataFrame | None, metric: Metric | None, average: float = np.nan) -> None:
    """Draws what each client's own model scored when it was last measured, beside the averaged model.

    Args:
        ax: an axes.
        clients: one row per client, see `records.client_totals`.
        metric: the headline.
        average: what the averaged model scored; NaN: it is not drawn.
    """
    ax.set(title="Clients' own models", xlabel="client")
    scores = np.empty(0) if clients is None or metric is None else column(clients, metric.name)
    if clients is None or metric is None or not np.isfinite(scores).any():
        not_measured(ax)
        return
    if len(scores) > _BARS:
        ax.hist(scores[np.isfinite(scores)], bins=20, color=SERIES[0])
        ax.set(xlabel=metric.label, ylabel="clients")
        axis: Axis = ax.xaxis
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        who = column(clients, "client")
        ax.vlines(who, np.nanmin(scores), scores, color=SERIES[0], linewidth=1.5, alpha=0.4)
        ax.plot(who, scores, "o", color=SERIES[0], markersize=6, label="a client's own")
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        ax.set(ylabel=metric.label)
        axis = ax.yaxis
    if metric.percent:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}"))
        axis.set_label_text(f"{metric.label} (%)")
    if np.isfinite(average):
        across = ax.axvline if axis is ax.xaxis else ax.axhline
        across(average, color=SERIES[1], linestyle="--", label="averaged model")
        legend_above(ax)


def plot_bytes_per_client(ax: Axes, clients: pd.DataFrame | None) -> None:
    """Draws the bytes that each client sent in the whole run."""
    ax.set(title="Bytes by client", xlabel="client", ylabel="bytes sent")
    ax.grid(axis="x", visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    if clients is None or not np.isfinite(column(clients, "bytes_sent")).any():
        not_measured(ax)
        return
    who, rows = np.unique(column(clients, "client"), return_inverse=True)
    sent = np.bincount(rows, weights=np.nan_to_num(column(clients, "bytes_sent")))
    if len(who) > _BARS:
        ax.stairs(sent, np.append(who - 0.5, who[-1] + 0.5), fill=True, color=SERIES[0])
    else:
        ax.bar(who, sent, width=0.72, color=SERIES[0])
        ax.set_xlim(who.min() - 0.6, who.max() + 0.6)
    ax.set_ylim(bottom=0)
    bytes_axis(ax.yaxis)


def plot_total_seconds(ax: Axes, histories: Mapping[str, pd.DataFrame]) -> None:
    """Draws the seconds of each run, stacked by phase."""
    totals = [phase_seconds(history) for history in histories.values()]
    left = np.zeros(len(totals))
    for phase in PHASES:
        if any(phase in total for total in totals):
            value, color = np.array([total.get(phase, 0.0) for total in totals]), PHASE_COLORS[phase]
            ax.barh(range(len(totals)), value, left=left, height=0.62, color=color, label=phase)
            left = left + value
    ax.set(title="Time by phase", xlabel="seconds")
    ax.set_yticks(range(len(histories)), [short(label) for label in histories])
    ax.set_ylim(len(histories) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)
    if not any(totals):
        not_measured(ax)
        return
    for row, total in enumerate(left):
        ax.annotate(format_seconds(total), (total, row), (4, 0), textcoords="offset points", va="center", color=MUTED)
    ax.margins(x=0.2)
    ax.set_ylim(len(totals) - 0.4, -0.75 - 0.2 * len(totals))  # room for the legend above the first bar
    ax.legend(loc="upper left", ncols=3, handlelength=0.7, handletextpad=0.4, columnspacing=0.8)
