"""Primal-dual consensus and D^2: decentralized training that unlike data do not bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import scipy.sparse as sp

from declora.errors import ConfigError
from declora.methods.corrected import Corrected
from declora.plan import Plan
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.state import State

__all__ = ["D2", "PrimalDual"]


class PrimalDual(Corrected):
    """Consensus as a constraint, with a dual variable for each edge; after F2A2 (arXiv 2004.11145), without its RL.

    Clients agree, x_i = x_j, by duals y_ij = -y_ji that grow with what is between them, y_ij <- y_ij + kappa w_ij
    (x_i - x_j) / (sum of the rates), and push them together in each local step. A client needs but the sum of its own,
    c_i = sum_j y_ij, 0 at first: each local step of rate eta is followed by x_i <- x_i - eta c_i. Gossip makes x_i' of
    x_i^K, and

        c_i <- c_i + kappa (x_i^K - x_i') / (sum of the rates)

    so duals are never sent, and a message is as large as Dec-LoRA's. The sum of c_i over clients stays 0, and on unlike
    data clients come to the optimum of all with a constant rate. The scaling by the graph's weights and the rate is
    ours. It diverges where an eigenvalue of W is at most (kappa - 2) / (kappa + 2): there W is made lazy, (I + W) / 2.

    Args:
        kappa: Step of the duals; 0 is Dec-LoRA, 1 is D^2.
    """

    name = "primal-dual"
    source = "after arXiv 2004.11145"
    options: ClassVar[Mapping[str, Option]] = {"kappa": Option(whole=False, least=0.0, most=1.0)}

    def __init__(self, kappa: float = 0.5) -> None:
        self.kappa = kappa

    def __str__(self) -> str:
        """The part with its step."""
        return f"{self.name}:kappa={self.kappa:g}"

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
                f"method={self.name!r} needs one symmetric mixing matrix for all rounds, which "
                f"topology={topology.name!r} has not. Use an undirected static graph with equal counts, or "
                "method='gradient-tracking'."
            )
        # On a mode of eigenvalue l, where gradients are 0, (x, c) is multiplied by a matrix of determinant l and trace
        # 1 + l - kappa (1 - l): stable iff 2 (1 + l) > kappa (1 - l).
        edge, least = (self.kappa - 2) / (self.kappa + 2), topology.least_eigenvalue
        if least > edge + 1e-9:
            return federation
        lazy = sp.csr_array((topology.weights(0) + sp.eye_array(topology.clients)) / 2)
        note = (
            f"method={str(self)!r} diverges where an eigenvalue of the mixing matrix is at most "
            f"{Fraction(edge).limit_denominator(1000)}; that of topology={topology.name!r} has {least:.3g}, so gossip "
            "goes half as far: (I + W) / 2."
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
        self.correction(state).add_(self.per_rate(self._lifted - mixed), alpha=self.kappa)


class D2(PrimalDual):
    """D^2 (Tang et al. 2018, arXiv 1803.07068), in the form that is exact over K local steps, too (LED, 2302.00620).

    It is `primal-dual:kappa=1`: client i has a correction c_i, 0 at first, whose sum over clients stays 0. Each local
    step of rate eta is followed by x_i <- x_i - eta c_i. Gossip makes x_i' of x_i^K, and

        c_i <- c_i + (x_i^K - x_i') / (sum of the rates)

    With K = 1 and SGD of a constant rate that is D^2, x^{t+1} = W (2 x^t - x^{t-1} - eta (g^t - g^{t-1})). It diverges
    where an eigenvalue of W is at most -1/3, which that of an even ring is: there W is made lazy, (I + W) / 2.
    """

    name = "d2"
    source = "arXiv 1803.07068"
    options: ClassVar[Mapping[str, Option]] = {}

    def __init__(self) -> None:
        super().__init__(kappa=1.0)

    def __str__(self) -> str:
        """The part, which takes no options."""
        return self.name
