"""Makes axes readable: ticks for rounds, bytes and logarithms, names at the ends of lines, what was not measured."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from declora.report.style import INK, MUTED
from declora.report.tables import format_bytes

__all__ = [
    "bytes_axis",
    "legend_above",
    "log_axis",
    "name_ends",
    "not_measured",
    "rounds_axis",
    "short",
    "tick_of_bytes",
]

_LABEL = 22
"""Longer names of runs are cut beside their bars and lines."""
_GAP = 0.09
"""Of an axes' height, between two names at the ends of lines."""


def rounds_axis(ax: Axes) -> None:
    """Has whole rounds along x."""
    ax.set_xlabel("round")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def bytes_axis(axis: Axis) -> None:
    """Has bytes with their unit along an axis."""
    axis.set_major_formatter(FuncFormatter(tick_of_bytes))
    axis.set_major_locator(MaxNLocator(4))


def tick_of_bytes(value: float, _: object = None) -> str:
    """Returns bytes as a tick shows them: no zeros after the point."""
    number, _, unit = format_bytes(value).partition(" ")
    return f"{float(number):g} {unit}" if value else "0"


def log_axis(axis: Axis, show: Callable[[float], str] = "{:g}".format) -> None:
    """Has a logarithm's ticks along an axis, and labels that are written out: "0.05", also where it spans no decade.

    Args:
        axis: one with a log scale.
        show: returns the text of a tick.
    """

    def between(value: float, _: object = None) -> str:
        # Under two decades the powers of ten alone are too few, under half of one 2 and 5 are, too.
        low, high = sorted(axis.get_view_interval())
        digit = round(value / 10.0 ** np.floor(np.log10(value) + 1e-9))
        wanted = low > 0 and (high < 3 * low or (high < 100 * low and digit in (2, 5)))
        return show(value) if wanted else ""

    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10))))
    axis.set_minor_formatter(FuncFormatter(between))
    axis.grid(visible=False, which="minor")


def name_ends(ax: Axes) -> None:
    """Writes each line's name beside its end, with a thread to it; names of lines that end together stand apart."""
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    ends = [(float(np.asarray(line.get_xdata())[-1]), float(np.asarray(line.get_ydata())[-1])) for line in lines]
    _ = ax.viewLim  # has the limits found, which lines that were drawn since have changed
    heights = [float(ax.transLimits.transform(ax.transScale.transform(end))[1]) for end in ends]
    # On a log axis 0 has no place (of one client alone, the distance to the mean is 0).
    seen = [i for i, height in enumerate(heights) if np.isfinite(height)]
    if not seen:
        return
    for i, height in zip(seen, _apart([heights[i] for i in seen]), strict=True):
        line, end = lines[i], ends[i]
        ax.annotate(
            short(str(line.get_label()), 16),
            end,
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=10,
            color=INK,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3},
        )


def _apart(heights: Sequence[float]) -> list[float]:
    """Returns heights in the same order, none nearer to another than a line of text is high."""
    order = np.argsort(heights, kind="stable")
    placed = np.asarray(heights, dtype=np.float64)[order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + _GAP)
    placed[-1] = min(placed[-1], max(1.0, _GAP * (len(placed) - 1)))
    for i in range(len(placed) - 2, -1, -1):
        placed[i] = min(placed[i], placed[i + 1] - _GAP)
    found = np.empty_like(placed)
    found[order] = placed
    return [float(height) for height in found]


def short(name: str, length: int = _LABEL) -> str:
    """Returns the name of a run, cut where it is long."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def legend_above(ax: Axes) -> None:
    """Names what is drawn above it, within the axes, where nothing is in the way."""
    if ax.get_legend_handles_labels()[0]:
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.2 * (high - low))
        ax.legend(loc="upper left", ncols=2, handlelength=1.2)


def not_measured(ax: Axes) -> None:
    """Says so where nothing is drawn."""
    if not ax.lines and not ax.texts:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center", color=MUTED)
