"""Draws single panels of lines over rounds or bytes: each function draws one history on a matplotlib axes.

A round in which a value was not measured (NaN) is skipped: the line goes on to the next measured one. What
draws lines takes `label` and `look`, so that several runs can be drawn over each other.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from declora.metrics import Metric
from declora.report.axes import bytes_axis, legend_above, log_axis, not_measured, rounds_axis, tick_of_bytes
from declora.report.records import column, metric_of
from declora.report.style import MUTED, Look

__all__ = ["plot_baselines", "plot_consensus", "plot_loss", "plot_quality", "plot_quality_by_bytes"]

Vector = NDArray[np.float64]

_MARKED = 30
"""Lines with more points than this carry no markers."""
_FIRST = Look()


def plot_quality(
    ax: Axes,
    history: pd.DataFrame,
    *,
    label: str | None = None,
    look: Look = _FIRST,
    band: bool = True,
    own: bool = False,
    before: float = np.nan,
) -> None:
    """Draws the headline metric over rounds: the averaged model as a line, the clients as a band min..max.

    Args:
        ax: an axes.
        history: one row per round.
        label: name of the run in the legend; without one, that of the line is.
        look: colour, marker and dash.
        band: whether the clients are drawn.
        own: whether the line is the mean of the clients' own models.
        before: what the common first adapter scored, before any training: the line begins with it at round 0.
    """
    metric = metric_of(history)
    values = np.array([]) if metric is None else column(history, metric.clients("mean") if own else metric.average)
    rounds = column(history, "round")
    if np.isfinite(before) and np.isfinite(values).any():
        history = pd.concat([pd.DataFrame({"round": [0]}), history], ignore_index=True)
        rounds, values = np.append(0.0, rounds), np.append(before, values)
    over = "round, clients' mean" if own else "round"
    _quality(ax, history, metric, (rounds, values), over, label=label, look=look, band=band)
    rounds_axis(ax)


def plot_quality_by_bytes(
    ax: Axes,
    history: pd.DataFrame,
    *,
    label: str | None = None,
    look: Look = _FIRST,
    band: bool = True,
    log: bool = False,
) -> None:
    """Draws the headline metric over the bytes that all clients had sent by then.

    Args:
        ax: an axes.
        history: one row per round.
        label: name of the run in the legend; without one, that of the line is.
        look: colour, marker and dash.
        band: whether the clients are drawn.
        log: whether the bytes get a log axis.
    """
    sent = column(history, "bytes_total")
    if log:  # which has no place for a run that sends nothing
        sent = np.where(sent > 0, sent, np.nan)
    metric = metric_of(history)
    values = np.array([]) if metric is None else column(history, metric.average)
    _quality(ax, history, metric, (sent, values), "bytes sent", label=label, look=look, band=band)
    ax.set_xlabel("bytes sent by all clients" + " (log scale)" * log)
    if log and not np.isfinite(sent).any():
        return
    if log:
        ax.set_xscale("log")
        log_axis(ax.xaxis, tick_of_bytes)
    else:
        bytes_axis(ax.xaxis)


def plot_baselines(ax: Axes, baselines: Mapping[str, float], metric: Metric | None) -> None:
    """Draws what needs no training (the largest class, chance) as thin lines with their names, where they are finite.

    Args:
        ax: an axes on which a quality has been drawn.
        baselines: by name.
        metric: the headline.
    """
    known = {name: value for name, value in baselines.items() if np.isfinite(value)}
    if metric is None or not ax.lines or not known:
        return
    for name, value in known.items():
        ax.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), label=f"_{name}")
        # Names stand away from each other: that of the largest above its line, of others below.
        side = "bottom" if value == max(known.values()) else "top"
        ax.text(1.0, value, name, transform=ax.get_yaxis_transform(), ha="right", va=side, fontsize=10, color=MUTED)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, min(known.values()) - 0.1 * (high - low)), high)


def plot_loss(
    ax: Axes,
    history: pd.DataFrame,
    *,
    clients: pd.DataFrame | None = None,
    label: str | None = None,
    look: Look = _FIRST,
) -> None:
    """Draws the training loss over rounds; with `clients`, the band from the best to the worst client."""
    loss = column(history, "train_loss")
    _line(ax, column(history, "round"), loss, label=label or "mean of the clients", look=look)
    if clients is not None and np.isfinite(column(clients, "train_loss")).any():
        ends = clients.groupby("round")["train_loss"].agg(["min", "max"]).astype(float)
        _band(ax, ends.index.to_numpy(float), ends["min"].to_numpy(), ends["max"].to_numpy(), look=look)
        if label is None:
            legend_above(ax)
    ax.set(title="Training loss", ylabel="loss (nats)")
    rounds_axis(ax)


def plot_consensus(ax: Axes, history: pd.DataFrame, *, label: str | None = None, look: Look = _FIRST) -> None:
    """Draws the consensus distance over rounds, on a log axis where it is above zero somewhere."""
    distance = column(history, "consensus_distance")
    _line(ax, column(history, "round"), distance, label=label, look=look)
    ax.set(title="Consensus distance", ylabel="RMS distance to the mean")
    if (distance > 0).any():
        ax.set_yscale("log", nonpositive="mask")
        log_axis(ax.yaxis)
    if ax.get_yscale() == "log":
        ax.set_ylabel("distance to the mean (log)")
    rounds_axis(ax)


def _quality(
    ax: Axes,
    history: pd.DataFrame,
    metric: Metric | None,
    line: tuple[Vector, Vector],
    over: str,
    *,
    label: str | None,
    look: Look,
    band: bool,
) -> None:
    if metric is None:
        if not ax.lines:  # else another run of the comparison has named the axes
            ax.set(title=f"Quality by {over}")
        not_measured(ax)
        return
    _line(ax, *line, label=label or "averaged model", look=look)
    if band:
        low, high = column(history, metric.clients("min")), column(history, metric.clients("max"))
        _band(ax, line[0], low, high, look=look, faint=label is not None)
    ax.set(title=f"{metric.title} by {over}", ylabel=metric.label)
    if metric.percent:
        ax.set_ylabel(f"{metric.label} (%)")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}"))


def _line(ax: Axes, x: Vector, y: Vector, *, label: str | None, look: Look) -> None:
    keep = np.isfinite(x) & np.isfinite(y)
    if not keep.any():
        not_measured(ax)
        return
    for text in list(ax.texts):  # an earlier run had nothing to show
        text.remove()
    line = look.line if keep.sum() <= _MARKED else {**look.line, "marker": "None"}
    ax.plot(x[keep], y[keep], label=label, **line)  # type: ignore[arg-type]


def _band(ax: Axes, x: Vector, low: Vector, high: Vector, *, look: Look, faint: bool = False) -> None:
    keep = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
    color, label = look.ink, "" if faint else "clients, min to max"
    if keep.sum() == 1:  # an area needs two points
        ax.vlines(x[keep], low[keep], high[keep], color=color, alpha=0.3, linewidth=8, label=label)
    elif keep.any():
        alpha = 0.1 if faint else 0.2
        ax.fill_between(x[keep], low[keep], high[keep], color=color, alpha=alpha, linewidth=0, label=label)
