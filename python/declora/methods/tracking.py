"""Gradient tracking: each client knows how the mean of all moves, beside its own gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from declora.methods.corrected import Corrected
from declora.plan import Plan

if TYPE_CHECKING:
    import torch

    from declora.model import Layout
    from declora.state import State

__all__ = ["GradientTracking"]


class GradientTracking(Corrected):
    """Gradient tracking over K local steps (K-GT, Liu et al. 2023, arXiv 2301.01313).

    Client i has a correction c_i, 0 at first, whose sum over clients stays 0. Each local step of rate eta is followed
    by x_i <- x_i - eta c_i. After K steps, with delta_i = (x_i^0 - x_i^K) / (sum of the rates),

        x_i <- sum_j w_ij x_j^K,    c_i <- c_i - delta_i + sum_j w_ij delta_j

    With K = 1 and SGD, y_i = g_i + c_i is the tracker of gradient tracking: x <- W (x - eta y), y <- W y + g' - g. On
    unlike data it comes to the optimum of all with a constant rate, where plain gossip keeps a bias. With AdamW the
    direction of its step stands for the gradient. A message has x and delta: twice the numbers.
    """

    name = "gradient-tracking"
    source = "arXiv 2301.01313"

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which deltas are sent beside adapters."""
        return replace(plan, sent=plan.sent.repeated(2))

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes where the local steps begin."""
        super().before_round(state, plan)
        self._begin = state.adapter.clone()

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of x, and of delta."""
        return layout.twice("delta.")

    def origin(self, state: State) -> torch.Tensor:
        """Returns the common first adapter, and no delta."""
        return self._beside(state.adapter, state.adapter.new_zeros(state.adapter.shape))

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns x and delta, `[clients, 2 D]`."""
        self._delta = self.per_rate(self._begin - state.adapter)
        return self._beside(state.adapter, self._delta)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes x, and moves the corrections by how far delta was from the neighbours'."""
        columns = state.adapter.shape[1]
        state.adapter.copy_(mixed[:, :columns])
        self.correction(state).add_(mixed[:, columns:] - self._delta)

    @staticmethod
    def _beside(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        found = one.new_empty(len(one), 2 * one.shape[1])
        found[:, : one.shape[1]], found[:, one.shape[1] :] = one, other
        return found
