"""Draws figures of one run and of several, from the history alone: plain `Figure` objects, no global state."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from declora.errors import ConfigError
from declora.report.panels import (
    plot_bytes_per_client,
    plot_consensus,
    plot_loss,
    plot_phases,
    plot_quality,
    plot_quality_by_bytes,
    plot_total_bytes,
    plot_total_seconds,
)
from declora.report.records import common_metric, total_bytes
from declora.report.style import house_style

__all__ = ["Draw", "comparison_figure", "comparison_panels", "run_figure", "run_panels"]

Draw = Callable[[Axes], None]
"""A panel that has its data: it only needs an axes."""


def run_figure(history: pd.DataFrame, clients: pd.DataFrame | None = None) -> Figure:
    """Returns one run as six panels: quality by round and by bytes, loss, consensus, time, bytes by client.

    Args:
        history: one row per round.
        clients: one row per round and client; adds the band of the clients' losses and the bytes of each.
    """
    return _six(run_panels(history, clients))


def comparison_figure(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Returns several runs over each other, in six panels with one legend.

    Args:
        histories: history of each run under its label, drawn in this order.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    figure = _six(comparison_panels(histories))
    with house_style():
        found = (ax.get_legend_handles_labels() for ax in figure.axes[:4])
        # A run may lack one measure: the panel with most lines names the runs.
        handles, labels = max(found, key=lambda pair: len(pair[0]))
        if handles:
            columns = min(len(handles), 6)
            figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=10.5)
    return figure


def run_panels(history: pd.DataFrame, clients: pd.DataFrame | None = None) -> list[tuple[str, Draw]]:
    """Returns what to draw for one run: pairs of a description and a function of an axes."""
    return [
        ("Quality by round", lambda ax: plot_quality(ax, history)),
        ("Quality by bytes sent", lambda ax: plot_quality_by_bytes(ax, history)),
        ("Training loss by round", lambda ax: plot_loss(ax, history, clients=clients)),
        ("Consensus distance by round", lambda ax: plot_consensus(ax, history)),
        ("Seconds by phase", lambda ax: plot_phases(ax, history)),
        ("Bytes by client", lambda ax: plot_bytes_per_client(ax, clients)),
    ]


def comparison_panels(histories: Mapping[str, pd.DataFrame]) -> list[tuple[str, Draw]]:
    """Returns what to draw for several runs: pairs of a description and a function of an axes.

    The clients' bands are drawn for one or two runs; more of them would hide each other.

    Raises:
        ConfigError: no history was given, or they are about different metrics.
    """
    if not histories:
        raise ConfigError("histories={} holds no run to compare: give at least one.")
    common_metric(histories.values())
    totals = [total for history in histories.values() if (total := total_bytes(history)) > 0]
    far_apart = bool(totals) and max(totals) > 4 * min(totals)
    band = len(histories) <= 2

    def each(panel: Callable[..., None], **settings: bool) -> Draw:
        def draw(ax: Axes) -> None:
            for index, (label, history) in enumerate(histories.items()):
                # matplotlib leaves a name that begins with an underscore out of the legend.
                name = f" {label}" if label.startswith("_") else label or f"run {index + 1}"
                panel(ax, history, label=name, index=index, **settings)

        return draw

    return [
        ("Quality by round", each(plot_quality, band=band)),
        ("Quality by bytes sent", each(plot_quality_by_bytes, band=band, log=far_apart)),
        ("Training loss by round", each(plot_loss)),
        ("Consensus distance by round", each(plot_consensus)),
        ("Bytes in total", lambda ax: plot_total_bytes(ax, histories)),
        ("Seconds by phase", lambda ax: plot_total_seconds(ax, histories)),
    ]


def _six(panels: Sequence[tuple[str, Draw]]) -> Figure:
    with house_style():
        figure = Figure(figsize=(12, 6.75), layout="constrained")
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)  # type: ignore[call-arg]
        for ax, (_, draw) in zip(figure.subplots(2, 3).ravel(), panels, strict=True):
            draw(ax)
    return figure
