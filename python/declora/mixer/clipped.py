"""Self-centred clipped gossip: a neighbour pulls, but never further than a radius."""

import scipy.sparse as sp

from declora import _bridge
from declora.errors import ConfigError
from declora.mixer.base import Mask, Mixer, Rows, core_matrix
from declora.mixer.neighbours import check_values
from declora.mixer.refusals import assumed_bad, sit_out
from declora.topology import Topology

__all__ = ["ClippedGossip"]


class ClippedGossip(Mixer):
    """R_i = z_i + sum_j w_ij clip(z_j - z_i, tau_i), clip(v, tau) = v min(1, tau/||v||) (He et al. 2022, 2202.01545).

    The paper clips around a client's exact value x_i. Here it is the public z_i, the same thing without a lossy codec:
    the two ends of an edge then clip the same difference, so with one tau and symmetric weights the mean over clients
    is kept for any codec. A neighbour pulls by at most gamma w_ij tau_i, whatever it sends; for tau = infinity it is
    linear gossip, bit for bit.

    Without `tau` each client takes the distance of its (f + 1)-th farthest neighbour, for f = 1 the second largest
    distance of the authors' code: at most f neighbours are clipped, and if no more are bad, tau_i is at most the
    distance of a good one. These radii differ, so the mean is not kept.

    Distances are those of the factors A and B as they are. (G, G^-1) between them would change the distance and not
    the model; clients of one run begin with the same A, so they stay near one choice.

    Args:
        f: Neighbours of a client that may be bad, 1 where neither is given.
        tau: The radius of all clients, above 0.
    """

    name = "clipped"
    robust = True
    self_centred = True

    def __init__(self, f: int | None = None, tau: float | None = None) -> None:
        if f is not None and tau is not None:
            raise ConfigError(f"mixer='clipped:f={f},tau={tau:g}': f is there to find tau. Give one of them.")
        self.f = 1 if f is None and tau is None else f
        self.tau = tau

    @property
    def least(self) -> int:
        """2f + 1: the bad ones are a minority; with a fixed tau it does not matter."""
        return 1 if self.f is None else 2 * self.f + 1

    def check(self, topology: Topology) -> None:
        """Checks that the f bad ones are a minority of each client's values; a fixed tau asks for nothing."""
        super().check(topology)
        if self.f is not None:
            check_values(str(self), topology, self.least, "2f + 1", otherwise="a fixed radius, e.g. clipped:tau=1")

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Mixes `rows [clients, D]` in place with the clipped public values `[clients, D]`."""
        matrix = core_matrix(sit_out(weights, refused))
        if self.f is None:
            shrunk = _bridge.clipped(matrix, public, float(self.tau or 0.0))
        else:
            shrunk = _bridge.clipped_beyond(matrix, public, assumed_bad(self.f, weights, refused))
        shrunk.mix(public, rows, gamma)

    def __str__(self) -> str:
        """The rule with its radius."""
        return f"clipped:tau={self.tau:g}" if self.f is None else f"clipped:f={self.f}"
