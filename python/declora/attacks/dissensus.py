"""An attack that tells every neighbour something else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from declora.attacks.attack import Past, Rows
from declora.attacks.values import Scaled

__all__ = ["Dissensus"]


class Dissensus(Scaled):
    """Keeps the honest apart: each is told what takes back what the others tell it (He et al. 2022, arXiv 2202.01545).

    Honest client i hears from each of its lying neighbours

        x_i - scale * (sum over honest j of w_ij (x_j - x_i)) / (sum over lying b of w_ib)

    so that linear gossip moves it by 1 - scale times what the honest alone would: with scale 1, where none is given, it
    stays where it is, and with more it moves away from them.
    """

    name = "dissensus"
    equivocates = True

    def start(self, matrices: Sequence[sp.csr_array], past: Past, **of_process: Any) -> None:
        """Has a private message for each edge from a liar to an honest client, in any round of the period."""
        super().start(matrices, past, **of_process)
        self._matrices = matrices
        pairs = []
        for matrix in matrices:
            receivers, senders = matrix.tocoo().coords
            towards = np.isin(senders, self.attackers) & ~np.isin(receivers, self.attackers)
            pairs.append(np.stack([senders, receivers], axis=1, dtype=np.int32)[towards])
        self.private = np.unique(np.concatenate(pairs), axis=0)

    def sent(self, t: int, rows: Rows) -> Rows:
        """Returns `rows [clients, D]` and below them the private messages of round t, `[clients + P, D]`."""
        if not self.acting:
            return rows
        weights = self._matrices[t % len(self._matrices)]
        honest, told = self.honest(len(rows)), self.private[:, 1]
        others = weights[told][:, honest]
        pull = others @ rows[honest].astype(np.float64) - others.sum(axis=1)[:, None] * rows[told]
        share = weights[told][:, list(self.attackers)].sum(axis=1)[:, None]
        # Without an edge in this round there is no share, and nobody hears the message.
        lies = rows[told] - self.scale * np.divide(pull, share, out=np.zeros_like(pull), where=share > 0)
        with np.errstate(over="ignore"):  # beyond float32: `cut` brings it back
            return np.concatenate([rows, lies.astype(np.float32)])
