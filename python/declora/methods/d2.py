"""D^2: decentralized training that unlike data do not bias."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import scipy.sparse as sp

from declora.errors import ConfigError
from declora.methods.corrected import Corrected
from declora.plan import Plan

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.state import State

__all__ = ["D2"]

_EDGE = -1 / 3 + 1e-9


class D2(Corrected):
    """D^2 (Tang et al. 2018, arXiv 1803.07068), in the form that is exact over K local steps, too (LED, 2302.00620).

    Client i has a correction c_i, 0 at first, whose sum over clients stays 0. Each local step of rate eta is followed
    by x_i <- x_i - eta c_i. Gossip makes x_i' of x_i^K, and

        c_i <- c_i + (x_i^K - x_i') / (sum of the rates)

    With K = 1 and SGD of a constant rate that is D^2, x^{t+1} = W (2 x^t - x^{t-1} - eta (g^t - g^{t-1})). On unlike
    data it comes to the optimum of all, and a message is as large as Dec-LoRA's. It diverges where an eigenvalue of W
    is at most -1/3, which that of an even ring is: there W is made lazy, (I + W) / 2.
    """

    name = "d2"
    source = "arXiv 1803.07068"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation with a matrix under which the recurrence is stable.

        Raises:
            ConfigError: The graph changes or is not symmetric, or the mixer is no weighted mean.
        """
        federation = super().arrange(federation)
        if federation.exchange.silent:
            return federation
        topology = federation.topology
        if topology.period > 1 or not topology.symmetric or federation.weighing is not None:
            raise ConfigError(
                f"method='d2' needs one symmetric mixing matrix for all rounds, which topology={topology.name!r} has "
                "not. Use an undirected static graph with equal counts, or method='gradient-tracking'."
            )
        least = topology.least_eigenvalue
        if least > _EDGE:
            return federation
        lazy = sp.csr_array((topology.weights(0) + sp.eye_array(topology.clients)) / 2)
        note = (
            f"method='d2' diverges where an eigenvalue of the mixing matrix is at most -1/3; that of "
            f"topology={topology.name!r} has {least:.3g}, so gossip goes half as far: (I + W) / 2."
        )
        return replace(
            federation,
            topology=replace(topology, matrices=(lazy,), notes=()),
            notes=(*federation.notes, note),
        )

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns the adapters."""
        self._lifted = state.adapter.clone()
        return state.adapter

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Moves the corrections by how far gossip moved the adapters."""
        self.correction(state).add_(self.per_rate(self._lifted - mixed))
