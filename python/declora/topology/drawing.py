"""Draws a topology: clients as dots, links as lines, a colour per round of a schedule."""

from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from declora.topology.graphs import torus_shape
from declora.topology.topology import Topology

__all__ = ["plot"]

_INK, _NODE, _PAPER = "#1f2933", "#0072b2", "#ffffff"
_LINK = "#5f6b7a"
# Okabe and Ito's colours, told apart with any of the common colour vision deficiencies.
_ROUNDS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_LEGEND = 10
"""Schedules with more rounds than this get no legend."""
_LABELLED = 40
"""More clients than this are dots without their numbers."""
_SPRING = 400
"""Up to so many clients irregular graphs get a force layout."""


def plot(topology: Topology, ax: Axes | None = None) -> Axes:
    """Draws who talks to whom and returns the axes.

    Lines are thicker where the weight is larger; arrows point from sender to receiver where links are
    one-way. The rounds of a schedule are drawn over each other in their own colours.

    Args:
        topology: what to draw.
        ax: axes to draw on; a new figure where None.
    """
    if ax is None:
        ax = plt.subplots(figsize=(5.2, 5.2), layout="constrained")[1]
    where = _layout(topology)
    labelled = topology.clients <= _LABELLED
    size = max(4.0, 3000.0 / topology.clients) if not labelled else max(180.0, 460.0 - 8.0 * topology.clients)
    colors = _colors(topology.period)
    for t, color in enumerate(colors):
        _draw_links(ax, topology.graph(t), where, color, size)
    dots = nx.draw_networkx_nodes(
        nx.empty_graph(topology.clients),
        where,
        ax=ax,
        node_size=size,
        node_color=_NODE if topology.period == 1 else _INK,
    )
    dots.set(edgecolor=_PAPER, linewidth=1.8 if labelled else 0.0, zorder=3)
    if labelled:
        nx.draw_networkx_labels(
            nx.empty_graph(topology.clients), where, ax=ax, font_size=9, font_color=_PAPER, font_weight="bold"
        )
    if 1 < topology.period <= _LEGEND:
        handles = [Line2D([], [], color=color, linewidth=2.2) for color in colors]
        labels = [f"round {t}" for t in range(topology.period)]
        ax.legend(
            handles,
            labels,
            frameon=False,
            ncols=min(topology.period, 5),
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
        )
    ax.set_title(
        f"{topology.name}, {topology.clients} client{'s' * (topology.clients != 1)}",
        color=_INK,
        loc="left",
        weight="bold",
        fontsize=11,
    )
    height = 0.35 if topology.name == "path" else 1.18
    ax.set(xlim=(-1.18, 1.18), ylim=(-height, height), aspect="equal")
    ax.set_axis_off()
    return ax


def _colors(period: int) -> list[Any]:
    if period == 1:
        return [_LINK]
    if period <= len(_ROUNDS):
        return list(_ROUNDS[:period])
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0.0, 0.9, period)]


def _draw_links(ax: Axes, graph: "nx.Graph[Any]", where: dict[int, Any], color: Any, size: float) -> None:
    if not graph.number_of_edges():
        return
    weights = np.array(list(nx.get_edge_attributes(graph, "weight").values()), dtype=np.float64)
    density = min(1.0, 3.0 * len(graph) / graph.number_of_edges())
    widths = (0.4 + 1.8 * density * np.sqrt(weights / weights.max())).tolist()
    style: dict[str, Any] = {"ax": ax, "edge_color": [color], "width": widths, "alpha": 0.25 + 0.55 * density}
    if graph.is_directed():
        # Two one-way links between the same pair are bent apart.
        style |= {"arrowsize": 9, "node_size": size, "connectionstyle": "arc3,rad=0.08"}
    nx.draw_networkx_edges(graph, where, **style)


def _layout(topology: Topology) -> dict[int, Any]:
    n = topology.clients
    kind = topology.name.split(":")[0]
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if kind == "path":
        # A wave, since a line of many would leave no room for their numbers.
        step = np.arange(n) / max(1, n - 1)
        return dict(enumerate(np.stack([2 * step - 1, 0.12 * np.sin(2 * np.pi * np.arange(n) / 6)], axis=1)))
    if kind == "star" and n > 2:
        angle = np.pi / 2 - 2 * np.pi * np.arange(n - 1) / (n - 1)
        return dict(enumerate(np.r_[np.zeros((1, 2)), np.stack([np.cos(angle), np.sin(angle)], axis=1)]))
    if kind == "torus" and n > 4:
        return _torus_layout(n)
    if kind in ("graph", "matrix", "erdos-renyi") and _LABELLED < n <= _SPRING:
        return dict(nx.spring_layout(topology.graph(), seed=0))
    return dict(enumerate(circle))


def _torus_layout(clients: int) -> dict[int, Any]:
    """Places rows as rings inside each other; columns bulge to leave room for the link that closes them."""
    rows, columns = torus_shape(clients)
    row, column = np.divmod(np.arange(clients), columns)
    bulge = 4 * row * (rows - 1 - row) / max(1, rows - 1) ** 2
    angle = np.pi / 2 - 2 * np.pi * (column + 0.3 * bulge) / columns
    radius = 1.0 - 0.65 * row / max(1, rows - 1)
    return dict(enumerate(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)))
