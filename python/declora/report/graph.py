"""The picture of who talks to whom: clients on a circle, a line for each pair that exchanges."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from declora.report.style import INK, MUTED, PAPER, SERIES, house_style

__all__ = ["plot_topology", "topology_figure"]

_LABELLED = 32
"""More clients than this are drawn as dots without their numbers."""


def plot_topology(ax: Axes, clients: int, edges: Iterable[tuple[int, int]], *, title: str = "") -> None:
    """Draws clients 0..clients-1 on a circle (the first on top, clockwise) and the edges between them.

    Args:
        ax: an axes; its frame is removed.
        clients: number of clients.
        edges: pairs (sender, receiver); the two directions of a pair are one line, a loop is left out.
        title: title of the axes.
    """
    angle = np.pi / 2 - 2 * np.pi * np.arange(clients) / max(clients, 1)
    where = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    pairs = sorted({(min(a, b), max(a, b)) for a, b in edges if a != b})
    density = min(1.0, 3.0 * clients / max(len(pairs), 1))
    if pairs:
        lines = LineCollection([where[[a, b]] for a, b in pairs], colors=MUTED, zorder=1)
        lines.set(linewidth=0.5 + 0.9 * density, alpha=0.25 + 0.55 * density, capstyle="round")
        ax.add_collection(lines)
    small = clients > _LABELLED
    size = max(8.0, 2600.0 / clients) if small else max(170.0, 420.0 - 9.0 * clients)
    ax.scatter(
        where[:, 0],
        where[:, 1],
        s=size,
        color=SERIES[0],
        edgecolors=PAPER,
        linewidths=0 if small else 2,
        zorder=2,
    )
    if not small:
        for client, (x, y) in enumerate(where):
            # White on blue in both modes, so not the colour of the paper.
            ax.text(
                x,
                y,
                str(client),
                color="#fefefe",
                fontsize=9,
                weight="bold",
                ha="center",
                va="center_baseline",
            )
    ax.set(xlim=(-1.18, 1.18), ylim=(-1.18, 1.18), aspect="equal")
    ax.set_axis_off()
    if title:
        ax.set_title(title, color=INK)


def topology_figure(clients: int, edges: Iterable[tuple[int, int]], *, title: str = "") -> Figure:
    """Returns the figure of one graph; see `plot_topology`."""
    with house_style():
        figure = Figure(figsize=(3.6, 3.6 if not title else 3.9), layout="constrained")
        plot_topology(figure.add_subplot(), clients, edges, title=title)
    return figure
