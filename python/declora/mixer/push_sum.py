"""Push-sum: the right mean on directed graphs where senders and receivers cannot be balanced."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.errors import ConfigError
from declora.mixer.base import Mask, Mixer, Rows, core_matrix
from declora.mixer.refusals import keep_shares
from declora.topology import Topology

__all__ = ["PushSum"]


class PushSum(Mixer):
    """Stochastic gradient push (Assran et al. 2019, arXiv 1811.10792), in difference form.

    A client has a numerator x_i `[D]` and a weight w_i, 1 at first. What it trains, evaluates and exports is
    x_i / w_i, its row of P; the K local steps move that, and x_i moves by the same step. Then, with p_ij the share
    that sender j gives to i (columns sum to 1),

        x_i += gamma * (sum over j != i of p_ij z_j - (sum over j != i of p_ji) z_i)

    and w the same, with z = w. Summed over i, each p_ij z_j appears once with plus (at i) and once with minus (at j):
    the sums of x and of w stay, whatever z is, so for any codec. A lossless z gives x <- P x.

    The w are no part of the frames, and in a simulation cost no bytes: as long as no message is refused they follow
    from the graph, which all clients know. Between ranks each goes with its message, in 8 bytes of the envelope, since
    of a rank that is lost not all know at once.
    """

    name = "push-sum"
    shares = True
    _here = slice(None)

    def check(self, topology: Topology) -> None:
        """Checks that every client keeps a share of its own, so that no weight ever gets to 0, and wants the mean."""
        if topology.law is not None:
            raise ConfigError(
                "mixer='push-sum' finds the plain mean, not one weighted by samples. Use mixer='linear', or "
                "weights='uniform' with method='fedavg'."
            )
        for t, graph in enumerate(topology.graphs):
            empty = np.flatnonzero(graph.own <= 0)
            if empty.size:
                raise ConfigError(
                    f"mixer='push-sum' needs a self weight above 0 at each client, but in topology={topology.name!r} "
                    f"client {empty[0]} keeps nothing in round {t} of every {topology.period}. Give it a share of its "
                    "own" + ("." if topology.column_stochastic else ", or use mixer='linear'.")
                )

    def place(self, here: slice) -> None:
        """Keeps which rows are of clients here: of the others only the weights are known, as they were heard."""
        self._here = here

    def beside(self) -> NDArray[np.float64]:
        """Returns the weights."""
        return self.weights

    def start(self, rows: Rows, room: dict[str, Any] | None = None) -> None:
        """Begins with the numerators equal to `rows [clients, D]` and all weights 1."""
        self._room = {} if room is None else room
        self._room |= {"numerators": rows.copy(), "weights": np.ones(len(rows))}

    @property
    def numerators(self) -> Rows:
        """The x_i, `[clients, D]`."""
        numerators: Rows = self._room["numerators"]
        return numerators

    @property
    def weights(self) -> NDArray[np.float64]:
        """The w_i, `[clients]`."""
        weights: NDArray[np.float64] = self._room["weights"]
        return weights

    def sent(self, rows: Rows) -> Rows:
        """Moves the numerators by the local steps that led to `rows`, and returns them."""
        numerators = self.numerators[self._here]
        step = np.empty_like(numerators)
        self._divide(step)
        np.subtract(rows[self._here], step, out=step)
        numerators += step
        return self.numerators

    def mix(
        self, weights: sp.csr_array, public: Rows, rows: Rows, *, gamma: float = 1.0, refused: Mask | None = None
    ) -> None:
        """Spreads numerators and weights, and sets `rows [clients, D]` to their quotients.

        Args:
            weights: The column-stochastic matrix of the round, p_ij in row i.
            public: z `[clients, D]`, public values of the numerators.
            rows: The adapters, overwritten.
            gamma: Step size.
            refused: Clients whose message was refused by all who got it: their shares go back to them.
        """
        split = keep_shares(weights, refused).T.tocsr()  # row j: how client j splits its own
        split.sort_indices()
        matrix = core_matrix(split)
        own = np.arange(len(rows))[self._here]
        _bridge.push(matrix, public, self.numerators[self._here], gamma, own)
        before, now = self.weights[:, None], self.weights.copy()
        _bridge.push(matrix, before, now[self._here, None], gamma, own)
        self._room["weights"] = now
        self._divide(rows[self._here])

    def _divide(self, out: Rows) -> None:
        """Writes numerators over weights to `out [clients here, D]`, rounded once."""
        np.divide(self.numerators[self._here], self.weights[self._here, None], out=out, casting="same_kind")
