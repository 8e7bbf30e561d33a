"""Rules that average the values nearest to each other, or to one's own, and drop the rest."""

import scipy.sparse as sp

from declora import _bridge
from declora.mixer.base import Mask, Mixer, Rows, core_matrix
from declora.mixer.neighbours import check_values
from declora.mixer.refusals import assumed_bad, sit_out
from declora.topology import Topology

__all__ = ["Krum", "MultiKrum", "NearestNeighbours"]


class MultiKrum(Mixer):
    """The mean of the m values of lowest score (Blanchard et al. 2017); weights do not matter.

    A value's score is the sum of its squared distances to the k - f - 2 nearest of the other k - 1 in the
    neighbourhood; the client's own value is one of them and has no privilege.

    Args:
        f: Neighbours of a client that may be bad.
        m: Values to average; k - f - 2 where None, the most for which it is proven to be robust (arXiv 1905.04374).
    """

    name = "multi-krum"
    robust = True
    weighted = False

    def __init__(self, f: int = 1, m: int | None = None) -> None:
        self.f = f
        self.m = m

    @property
    def least(self) -> int:
        """2f + 3 for scores of honest values mostly, and m + f for m honest ones."""
        return max(2 * self.f + 3, (self.m or 1) + self.f)

    def check(self, topology: Topology) -> None:
        """Checks that scores are of honest values mostly, and that m values can be honest."""
        super().check(topology)
        simpler = f"mixer='nna:f={self.f}', which needs {2 * self.f + 1}"
        check_values(str(self), topology, 2 * self.f + 3, "2f + 3", otherwise=simpler)
        if self.m is not None and self.m > 1:
            check_values(str(self), topology, self.m + self.f, "m + f", otherwise="a smaller m")

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Moves `rows [clients, D]` in place to the means of the chosen public values `[clients, D]`."""
        bad = assumed_bad(self.f, weights, refused)
        chosen = _bridge.krum(core_matrix(sit_out(weights, refused)), public, bad, self.m)
        chosen.mix(public, rows, gamma)

    def __str__(self) -> str:
        """The rule with its f and m."""
        return f"{self.name}:f={self.f}" + (f",m={self.m}" if self.m is not None and self.name == "multi-krum" else "")


class Krum(MultiKrum):
    """The one value of lowest score, `MultiKrum` with m = 1."""

    name = "krum"

    def __init__(self, f: int = 1) -> None:
        super().__init__(f, m=1)


class NearestNeighbours(Mixer):
    """NNA: the mean of the k - f values nearest to one's own, which is one of them; weights do not matter.

    Farhadkhani et al. 2023, arXiv 2209.10931.

    Args:
        f: Neighbours of a client that may be bad.
    """

    name = "nna"
    robust = True
    weighted = False
    self_centred = True

    def __init__(self, f: int = 1) -> None:
        self.f = f

    @property
    def least(self) -> int:
        """2f + 1: the bad ones are a minority."""
        return 2 * self.f + 1

    def check(self, topology: Topology) -> None:
        """Checks that the bad ones are a minority."""
        super().check(topology)
        check_values(str(self), topology, self.least, "2f + 1", otherwise="mixer='clipped:tau=1'")

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Moves `rows [clients, D]` in place to the means of the nearest public values `[clients, D]`."""
        bad = assumed_bad(self.f, weights, refused)
        _bridge.nearest(core_matrix(sit_out(weights, refused)), public, bad).mix(public, rows, gamma)

    def __str__(self) -> str:
        """The rule with its f."""
        return f"{self.name}:f={self.f}"
