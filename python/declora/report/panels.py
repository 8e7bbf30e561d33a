"""Draws single panels: each function draws one history, or several, on a matplotlib axes.

A round in which a value was not measured (NaN) is skipped: the line goes on to the next measured one. What
draws lines takes `label` and `index`, so that several runs can be drawn over each other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from declora.report.records import PHASES, column, metric_of, phase_seconds, total_bytes
from declora.report.style import MUTED, PHASE_COLORS, SERIES, series
from declora.report.tables import format_bytes, format_seconds

__all__ = [
    "plot_bytes_per_client",
    "plot_consensus",
    "plot_loss",
    "plot_phases",
    "plot_quality",
    "plot_quality_by_bytes",
    "plot_total_bytes",
    "plot_total_seconds",
]

Vector = NDArray[np.float64]

_MARKED = 30
"""Lines with more points than this carry no markers."""
_BARS = 60
"""More rounds or clients than this are drawn as one area instead of bars."""
_LABEL = 22
"""Longer names of runs are cut beside their bars."""


def plot_quality(
    ax: Axes, history: pd.DataFrame, *, label: str | None = None, index: int = 0, band: bool = True
) -> None:
    """Draws the headline metric over rounds: the averaged model as a line, the clients as a band min..max.

    Args:
        ax: an axes.
        history: one row per round.
        label: name of the run in the legend; without one the legend names line and band.
        index: which colour and marker.
        band: whether the clients are drawn.
    """
    _quality(ax, history, column(history, "round"), "round", label=label, index=index, band=band)
    _rounds(ax)


def plot_quality_by_bytes(
    ax: Axes,
    history: pd.DataFrame,
    *,
    label: str | None = None,
    index: int = 0,
    band: bool = True,
    log: bool = False,
) -> None:
    """Draws the headline metric over the bytes that all clients had sent by then.

    Args:
        ax: an axes.
        history: one row per round.
        label: name of the run in the legend; without one the legend names line and band.
        index: which colour and marker.
        band: whether the clients are drawn.
        log: whether the bytes get a log axis.
    """
    sent = column(history, "bytes_total")
    if log:  # which has no place for a run that sends nothing
        sent = np.where(sent > 0, sent, np.nan)
    _quality(ax, history, sent, "bytes sent", label=label, index=index, band=band)
    ax.set_xlabel("bytes sent by all clients")
    if log and not np.isfinite(sent).any():
        return
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        ax.xaxis.set_major_formatter(FuncFormatter(_bytes_tick))
    else:
        _bytes_axis(ax.xaxis)


def plot_loss(
    ax: Axes,
    history: pd.DataFrame,
    *,
    clients: pd.DataFrame | None = None,
    label: str | None = None,
    index: int = 0,
) -> None:
    """Draws the training loss over rounds; with `clients`, the band from the best to the worst client."""
    loss = column(history, "train_loss")
    _line(ax, column(history, "round"), loss, label=label or "mean of the clients", index=index)
    if clients is not None and np.isfinite(column(clients, "train_loss")).any():
        ends = clients.groupby("round")["train_loss"].agg(["min", "max"]).astype(float)
        _band(ax, ends.index.to_numpy(float), ends["min"].to_numpy(), ends["max"].to_numpy(), index=index)
        if label is None:
            ax.legend(loc="upper right" if len(history) > 1 else "best")
    ax.set(title="Training loss", ylabel="loss (nats)")
    _rounds(ax)


def plot_consensus(ax: Axes, history: pd.DataFrame, *, label: str | None = None, index: int = 0) -> None:
    """Draws the consensus distance over rounds, on a log axis where it is above zero somewhere."""
    distance = column(history, "consensus_distance")
    _line(ax, column(history, "round"), distance, label=label, index=index)
    ax.set(title="Consensus distance", ylabel="RMS distance to the mean")
    if (distance > 0).any():
        ax.set_yscale("log", nonpositive="mask")
        _log_axis(ax.yaxis)
    _rounds(ax)


def plot_phases(ax: Axes, history: pd.DataFrame) -> None:
    """Draws the seconds of each round, stacked by phase; the legend gives each phase's total."""
    ax.set(title="Time by phase", ylabel="seconds per round")
    ax.grid(axis="x", visible=False)
    _rounds(ax)
    totals = phase_seconds(history)
    if not totals:
        _not_measured(ax)
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
    ax.set_ylim(0, max(float(bottom.max()), 1e-9) * (1.1 + 0.15 * rows))  # room for the legend
    ax.legend(loc="upper left", ncols=2, handlelength=0.8, fontsize=8.5)


def plot_bytes_per_client(ax: Axes, clients: pd.DataFrame | None) -> None:
    """Draws the bytes that each client sent in the whole run."""
    ax.set(title="Bytes by client", xlabel="client", ylabel="bytes sent")
    ax.grid(axis="x", visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    if clients is None or not np.isfinite(column(clients, "bytes_sent")).any():
        _not_measured(ax)
        return
    who, rows = np.unique(column(clients, "client"), return_inverse=True)
    sent = np.bincount(rows, weights=np.nan_to_num(column(clients, "bytes_sent")))
    if len(who) > _BARS:
        ax.stairs(sent, np.append(who - 0.5, who[-1] + 0.5), fill=True, color=SERIES[0])
    else:
        ax.bar(who, sent, width=0.72, color=SERIES[0])
        ax.set_xlim(who.min() - 0.6, who.max() + 0.6)
    ax.set_ylim(bottom=0)
    _bytes_axis(ax.yaxis)


def plot_total_bytes(ax: Axes, histories: Mapping[str, pd.DataFrame]) -> None:
    """Draws the bytes that all clients sent in each run, as bars with their values."""
    totals = [total_bytes(history) for history in histories.values()]
    colors = [series(index)["color"] for index in range(len(totals))]
    ax.barh(range(len(totals)), np.nan_to_num(totals), height=0.62, color=colors)
    for row, total in enumerate(totals):
        where = (float(np.nan_to_num(total)), row)
        ax.annotate(format_bytes(total), where, (5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set(title="Bytes in total", xlabel="bytes sent by all clients")
    ax.margins(x=0.24)
    _bytes_axis(ax.xaxis)
    _run_names(ax, list(histories))


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
    _run_names(ax, list(histories))
    if not any(totals):
        _not_measured(ax)
        return
    ax.set_ylim(len(totals) - 0.4, -0.65 - 0.15 * len(totals))  # room for the legend above the first bar
    ax.legend(loc="upper left", ncols=5, handlelength=0.7, handletextpad=0.4, columnspacing=0.8, fontsize=8)


def _quality(
    ax: Axes, history: pd.DataFrame, x: Vector, over: str, *, label: str | None, index: int, band: bool
) -> None:
    metric = metric_of(history)
    if metric is None:
        if not ax.lines:  # else another run of the comparison has named the axes
            ax.set(title=f"Quality by {over}")
        _not_measured(ax)
        return
    _line(ax, x, column(history, metric.average), label=label or "averaged model", index=index)
    if band:
        low, high = column(history, metric.clients("min")), column(history, metric.clients("max"))
        _band(ax, x, low, high, index=index, faint=label is not None)
    if label is None:
        single = len(history) == 1  # in the middle of the axes, where a corner is too wide
        ax.legend(loc="best" if single else "lower right" if metric.higher_is_better else "upper right")
    ax.set(title=f"{metric.title} by {over}", ylabel=metric.label)
    if metric.percent:
        ax.set_ylabel(f"{metric.label} (%)")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}"))


def _line(ax: Axes, x: Vector, y: Vector, *, label: str | None, index: int) -> None:
    keep = np.isfinite(x) & np.isfinite(y)
    if not keep.any():
        _not_measured(ax)
        return
    for text in list(ax.texts):  # an earlier run had nothing to show
        text.remove()
    look = series(index)
    marker = look["marker"] if keep.sum() <= _MARKED else "None"
    ax.plot(x[keep], y[keep], label=label, color=look["color"], linestyle=look["linestyle"], marker=marker)


def _band(ax: Axes, x: Vector, low: Vector, high: Vector, *, index: int, faint: bool = False) -> None:
    keep = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
    color, label = series(index)["color"], "" if faint else "clients, min to max"
    if keep.sum() == 1:  # an area needs two points
        ax.vlines(x[keep], low[keep], high[keep], color=color, alpha=0.3, linewidth=8, label=label)
    elif keep.any():
        alpha = 0.1 if faint else 0.2
        ax.fill_between(x[keep], low[keep], high[keep], color=color, alpha=alpha, linewidth=0, label=label)


def _run_names(ax: Axes, labels: Sequence[str]) -> None:
    short = [label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…" for label in labels]
    ax.set_yticks(range(len(labels)), short)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)


def _rounds(ax: Axes) -> None:
    ax.set_xlabel("round")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _bytes_axis(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(_bytes_tick))
    axis.set_major_locator(MaxNLocator(4))


def _bytes_tick(value: float, _: object = None) -> str:
    number, _, unit = format_bytes(value).partition(" ")
    return f"{float(number):g} {unit}" if value else "0"


def _log_axis(axis: Axis) -> None:
    # Under two decades the powers of ten alone are too few; labels in between are written out, as "0.05".
    def between(value: float, _: object = None) -> str:
        low, high = sorted(axis.get_view_interval())
        return f"{value:g}" if low > 0 and high < 100 * low else ""

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(FuncFormatter(between))


def _not_measured(ax: Axes) -> None:
    if not ax.lines and not ax.texts:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center", color=MUTED)
