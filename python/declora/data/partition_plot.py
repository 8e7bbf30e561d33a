"""Draws a partition: who holds how much of which class."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.container import BarContainer
from matplotlib.ticker import MaxNLocator

from declora.errors import cut

__all__ = ["plot_counts"]

# Distinct hues of similar weight that also differ in lightness (Okabe and Ito 2008, safe for the colour-blind).
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#6B6B6B")
_MAX_BARS = 40
_MAX_LEGEND = 20


def plot_counts(name: str, counts: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draws `Partition.counts`: one bar per client, or above 40 clients one filled band per class."""
    clients = len(counts)
    if ax is None:
        _, ax = plt.subplots(figsize=(7.5, float(np.clip(1.3 + 0.26 * clients, 2.4, 8))), layout="constrained")
    labelled = counts.shape[1] > 1
    table = counts.iloc[:, :-1] if labelled else counts
    colors = _palette(table.shape[1])
    left = np.zeros(clients)
    edges = np.arange(clients + 1) - 0.5
    drawn: list[BarContainer | FillBetweenPolyCollection] = []
    for j in range(table.shape[1]):
        width = table.iloc[:, j].to_numpy(dtype=np.float64)
        if clients <= _MAX_BARS:
            drawn.append(ax.barh(np.arange(clients), width, left=left, height=0.78, color=colors[j]))
        else:
            start, end = (np.append(side, side[-1]) for side in (left, left + width))
            drawn.append(ax.fill_betweenx(edges, start, end, step="post", color=colors[j], linewidth=0))
        left = left + width
    ax.set(xlabel="training rows", ylabel="client", xlim=(0, 1.02 * left.max()), ylim=(clients - 0.5, -0.5))
    ax.set_title(_written(name, 60), loc="left", fontsize="medium")
    if clients <= _MAX_BARS:
        ax.set_yticks(np.arange(clients))
        ax.tick_params(axis="y", length=0, labelsize="small" if clients <= 25 else "x-small")
    else:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.grid(axis="x", color="0.85", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    if labelled and table.shape[1] <= _MAX_LEGEND:
        names = [_written(column, 30) for column in table.columns]
        ax.legend(
            drawn, names, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", title="class"
        )
    elif labelled:
        ax.set_title(f"{table.shape[1]} classes", loc="right", fontsize="small")
    return ax


def _written(name: object, most: int) -> str:
    """Returns a name of any length and letters as matplotlib can write it, which takes `$` for mathematics."""
    return cut(name, most).replace("$", r"\$")


def _palette(classes: int) -> list[tuple[float, ...] | str]:
    if classes <= len(_COLORS):
        return list(_COLORS[:classes])
    return [colormaps["turbo"](0.06 + 0.88 * i / (classes - 1)) for i in range(classes)]
