"""Rules by coordinate: trimmed mean and median (Yin et al. 2018, arXiv 1803.01498).

Each column on its own, so the result is in no client's subspace of low rank, and with few neighbours little is left
to average. A column's result lies between the honest clients' lowest and highest value as long as fewer than half of
the values are bad.
"""

import scipy.sparse as sp

from declora import _bridge
from declora.mixer.base import Mask, Mixer, Rows, core_matrix
from declora.mixer.neighbours import check_values
from declora.mixer.refusals import assumed_bad, sit_out
from declora.topology import Topology

__all__ = ["Median", "TrimmedMean"]


class TrimmedMean(Mixer):
    """The mean of a neighbourhood without the f lowest and f highest values of each column; weights do not matter."""

    name = "trimmed-mean"
    robust = True
    weighted = False

    def __init__(self, f: int = 1) -> None:
        self.f = f

    @property
    def least(self) -> int:
        """2f + 1: one is left."""
        return 2 * self.f + 1

    def check(self, topology: Topology) -> None:
        """Checks that trimming leaves a value."""
        super().check(topology)
        check_values(str(self), topology, self.least, "2f + 1", otherwise="mixer='clipped:tau=1'")

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Moves `rows [clients, D]` in place by the trimmed means of the public values `[clients, D]`."""
        bad = assumed_bad(self.f, weights, refused)
        _bridge.trimmed_mean(core_matrix(sit_out(weights, refused)), public, rows, bad, gamma)

    def __str__(self) -> str:
        """The rule with its f."""
        return f"{self.name}:f={self.f}"


class Median(Mixer):
    """The median of a neighbourhood in each column, the mean of the two in the middle where their number is even."""

    name = "median"
    robust = True
    weighted = False

    @property
    def least(self) -> int:
        """3: of two, neither can be told to be the bad one."""
        return 3

    def check(self, topology: Topology) -> None:
        """Checks that one value can be bad: the median of two is their mean."""
        super().check(topology)
        check_values(str(self), topology, self.least, "one bad one among them", otherwise="mixer='linear'")

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Moves `rows [clients, D]` in place by the medians of the public values `[clients, D]`."""
        _bridge.median(core_matrix(sit_out(weights, refused)), public, rows, gamma)
