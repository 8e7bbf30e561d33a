"""D^2: decentralized training that unlike data do not bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import scipy.sparse as sp

from declora.errors import ConfigError
from declora.methods.part import Part
from declora.plan import Plan

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["D2"]

_EDGE = -1 / 3 + 1e-9


class D2(Part):
    """D^2 (Tang et al. 2018, arXiv 1803.07068), with what K local steps move in the place of a gradient step.

    With d^t = x^t - (x^t after its local steps), x^1 = W (x^0 - d^0), and then

        x^{t+1} = W (2 x^t - x^{t-1} - (d^t - d^{t-1})) = W (h^t + x^t - h^{t-1}),   h^t = x^t - d^t

    so all that is kept is h of the round before. With K = 1 and SGD of a constant rate that is D^2. A message is as
    large as without. It diverges where an eigenvalue of W is at most -1/3, which that of an even ring is: there W is
    made lazy, (I + W) / 2.
    """

    name = "d2"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation with a matrix under which the recurrence is stable.

        Raises:
            ConfigError: The graph changes or is not symmetric, or the mixer is no weighted mean.
        """
        if federation.exchange.silent:
            return federation
        topology = federation.topology
        if str(federation.mixer) != "linear":
            raise ConfigError(
                f"method='d2' is made for weighted means, but mixer={str(federation.mixer)!r}. Use mixer='linear'."
            )
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

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns h of the round before, float32 `[clients, D]`: before the first one, where all begin."""
        return {"before": state.adapter.clone()}

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes where the local steps begin."""
        self._begin = state.adapter.clone()

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns h + x - h of the round before, `[clients, D]`."""
        before: torch.Tensor = state.room(self.name)["before"]  # type: ignore[assignment]
        lifted = state.adapter + self._begin - before
        before.copy_(state.adapter)
        return lifted

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes what was combined for the adapters."""
        state.adapter.copy_(mixed)
