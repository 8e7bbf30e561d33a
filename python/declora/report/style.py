"""Gives declora's figures one look: palette, markers and matplotlib settings.

The palette is Okabe and Ito's (https://jfly.uni-koeln.de/color/), which people with any of the common colour
vision deficiencies can tell apart; runs also differ by marker, so a print in grey still reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from cycler import cycler

from declora import process

__all__ = ["DARK", "GRID", "INK", "MUTED", "PAPER", "PHASE_COLORS", "SERIES", "house_style", "series"]

INK, MUTED, GRID, PAPER = "#1f2933", "#5f6b7a", "#e3e7ec", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
PHASE_COLORS = {
    "train": SERIES[0],
    "encode": SERIES[4],
    "exchange": SERIES[2],
    "mix": SERIES[3],
    "evaluate": SERIES[5],
}
DARK = {
    INK: "#e6eaf0",
    MUTED: "#9aa7b6",
    GRID: "#2c3541",
    PAPER: "#161b22",
    SERIES[0]: "#5aa9ea",
    SERIES[1]: "#ff8f52",
    SERIES[2]: "#35c79b",
    SERIES[3]: "#e79cc6",
    SERIES[4]: "#f3b73e",
    SERIES[5]: "#93d1f7",
}
"""What each colour becomes on a dark page."""

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", ":", "-.")
_SETTINGS: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": 150,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in the name of a run is a dollar
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=list(SERIES)),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "lines.markeredgewidth": 0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.2,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draws what is built inside in the style of the reports; the settings outside are untouched.

    A figure that was built inside follows the light or dark mode of an HTML report; others stay as drawn.
    """
    with process.alone(), mpl.rc_context(_SETTINGS):
        yield


def series(index: int) -> dict[str, str]:
    """Returns colour, marker and dash of the run with this index, distinct for 24 runs."""
    return {
        "color": SERIES[index % len(SERIES)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _DASHES[index // len(SERIES) % len(_DASHES)],
    }
