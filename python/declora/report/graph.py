"""Draws who talks to whom: clients on a circle, a line for each pair that exchanges."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from declora.report.style import CARD, INK, MUTED, ON_BLUE, PAPER, SERIES, house_style
from declora.round_graph import CompleteGraph, RoundGraph

__all__ = ["Edges", "choose_links", "plot_topology", "schedule_figure", "topology_figure"]

Edges = Iterable[tuple[int, int]] | NDArray[np.integer] | RoundGraph
"""Pairs (sender, receiver), or an array of them, `[edges, 2]`, or the graph of a round."""

_LABELLED = 32
"""More clients than this are drawn as dots without their numbers."""
_VECTOR = 1000
"""More dots than this are kept as a picture, not one by one."""
_LINKS = 1500
"""So many lines are drawn; of more, a sample."""


def choose_links(edges: Edges) -> tuple[NDArray[np.int64], int]:
    """Returns the pairs of clients to draw, `[links, 2]` and sorted, and how many pairs there are.

    The two directions of a pair are one link, and a loop is none. Of many links a sample is drawn, always the same.
    """
    if isinstance(edges, CompleteGraph):
        return _among_all(edges.clients)
    if isinstance(edges, RoundGraph):
        edges = edges.edges
    pairs = np.asarray(edges if isinstance(edges, np.ndarray) else list(edges), dtype=np.int64).reshape(-1, 2)
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    base = 1 + high.max(initial=0)
    codes = np.unique((low * base + high)[low < high])
    count = len(codes)
    if count > _LINKS:
        codes = codes[_drawn(count)]
    return np.stack(np.divmod(codes, base), axis=1), count


def _among_all(clients: int) -> tuple[NDArray[np.int64], int]:
    """Returns what `choose_links` does where all are linked, from the places of the pairs among all."""
    each = np.arange(clients - 1, -1, -1)  # pairs of client i with those after it
    stops = np.cumsum(each)
    count = int(stops[-1])
    codes = np.arange(count) if count <= _LINKS else _drawn(count)
    low = np.searchsorted(stops, codes, side="right")
    return np.stack([low, codes - (stops - each)[low] + low + 1], axis=1), count


def _drawn(count: int) -> NDArray[np.int64]:
    """Returns which of so many links are drawn, by their places in order."""
    return np.sort(np.random.default_rng(0).choice(count, _LINKS, replace=False))


def plot_topology(ax: Axes, clients: int, edges: Edges, *, links: int | None = None, title: str = "") -> None:
    """Draws clients 0..clients-1 on a circle (the first on top, clockwise) and the edges between them.

    Args:
        ax: an axes; its frame is removed.
        clients: number of clients.
        edges: who sends to whom; of many, a sample is drawn, and how many there are is said below.
        links: how many links there are, where `edges` is a sample already.
        title: title of the axes.
    """
    angle = np.pi / 2 - 2 * np.pi * np.arange(clients) / max(clients, 1)
    where = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    pairs, count = choose_links(edges)
    count = links or count
    density = min(1.0, 3.0 * clients / max(len(pairs), 1))
    if len(pairs):
        lines = LineCollection(list(where[pairs]), colors=MUTED, zorder=1)
        lines.set(linewidth=0.5 + 0.9 * density, alpha=0.25 + 0.55 * density, capstyle="round")
        ax.add_collection(lines)
    if len(pairs) < count:
        ax.text(0, -1.18, f"{len(pairs):,} of {count:,} links", color=MUTED, fontsize=8, ha="center", va="bottom")
    small = clients > _LABELLED
    size = max(8.0, 2600.0 / clients) if small else max(190.0, 420.0 - 9.0 * clients)
    ax.scatter(
        where[:, 0],
        where[:, 1],
        s=size,
        color=SERIES[0],
        edgecolors=PAPER,
        linewidths=0 if small else 2,
        rasterized=clients > _VECTOR,
        zorder=2,
    )
    if not small:
        for client, (x, y) in enumerate(where):
            ax.text(
                x,
                y,
                str(client),
                color=ON_BLUE,
                fontsize=10,
                weight="bold",
                ha="center",
                va="center_baseline",
            )
    lines_of_title = title.count("\n") + 1 if title else 0
    # Within the axes: a title above axes that are off is cut where a figure is full of them.
    ax.set(xlim=(-1.18, 1.18), ylim=(-1.18, 1.18 + 0.27 * lines_of_title), aspect="equal")
    ax.set_axis_off()
    if title:
        ax.text(-1.18, 1.18 + 0.27 * lines_of_title, title, color=INK, weight="bold", fontsize=10.5, va="top")


def topology_figure(clients: int, edges: Edges, *, links: int | None = None, title: str = "") -> Figure:
    """Returns the figure of one graph; see `plot_topology`."""
    with house_style():
        figure = Figure(figsize=(3.6, 3.6 if not title else 3.9), layout="constrained")
        plot_topology(figure.add_subplot(), clients, edges, links=links, title=title)
    return figure


def schedule_figure(clients: int, rounds: Sequence[Edges]) -> Figure:
    """Returns the figure of graphs that take turns, side by side, each under its round."""
    with house_style():
        figure = Figure(figsize=(CARD[0], 2.25 * -(-len(rounds) // 2)), layout="constrained")
        for number, edges in enumerate(rounds):
            ax = figure.add_subplot(-(-len(rounds) // 2), 2, number + 1)
            plot_topology(ax, clients, edges, title=f"round {number + 1}")
    return figure
