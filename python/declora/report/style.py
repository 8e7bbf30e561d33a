"""Gives declora's figures one look: palette, markers and matplotlib settings.

The palette is Okabe and Ito's (https://jfly.uni-koeln.de/color/), which people with any of the common colour
vision deficiencies can tell apart; runs also differ by marker, so a print in grey still reads. Texts are in ink, never
in a colour of the palette, most of which are too light for letters.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from cycler import cycler

from declora import process

__all__ = [
    "CARD",
    "DARK",
    "GRID",
    "INK",
    "MUTED",
    "ON_BLUE",
    "PAPER",
    "PHASE_COLORS",
    "SERIES",
    "Look",
    "house_style",
    "looks_of",
]

INK, MUTED, GRID, PAPER = "#1f2933", "#5f6b7a", "#e3e7ec", "#ffffff"
ON_BLUE = "#fefefe"
"""Letters on the first colour of the series."""
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
    ON_BLUE: "#0d1117",
}
"""What each colour becomes on a dark page."""
CARD = (4.2, 3.2)
"""Inches of a figure in a card of its own: as wide as a phone, so that its letters are as large there as the page's."""

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", ":", "-.")
_SETTINGS: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": 150,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in the name of a run is a dollar
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
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
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "lines.markeredgewidth": 0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 10,
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


@dataclass(frozen=True)
class Look:
    """How one of several runs is drawn.

    Attributes:
        color: which of the colours, counted on from the last to the first.
        dash: which of the dashes.
        mark: which of the markers.
    """

    color: int = 0
    dash: int = 0
    mark: int = 0

    @property
    def ink(self) -> str:
        """Its colour."""
        return SERIES[self.color % len(SERIES)]

    @property
    def line(self) -> dict[str, str]:
        """Colour, marker and dash, as matplotlib calls them."""
        return {
            "color": self.ink,
            "marker": _MARKERS[self.mark % len(_MARKERS)],
            "linestyle": _DASHES[self.dash % len(_DASHES)],
        }


def looks_of(
    labels: Sequence[str], kinds: Mapping[str, Hashable] | None = None, works: Mapping[str, Hashable] | None = None
) -> dict[str, Look]:
    """Returns how each of several runs is drawn: a colour for each kind, a dash for each amount of local work.

    Args:
        labels: the runs.
        kinds: what each run is but for its local work, by label: its method, mostly; None: each is one of its own.
        works: how much local work (K) each does between two messages, by label; None: all the same.
    """
    kinds, works = kinds or {}, works or {}
    colors = list(dict.fromkeys(kinds.get(label, label) for label in labels))
    dashes = list(dict.fromkeys(works.get(label, "") for label in labels))
    looks: dict[str, Look] = {}
    for label in labels:
        color, dash = colors.index(kinds.get(label, label)), dashes.index(works.get(label, ""))
        # The seventh kind has the first colour again, with another dash.
        looks[label] = Look(color, dash + color // len(SERIES), color)
    return looks
