"""Clients of unlike ranks: each adapter has the columns of the largest rank, and a client's own are the first ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from declora.errors import ConfigError
from declora.methods.part import Part, Step
from declora.mixer import PushSum
from declora.plan import Plan

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import State

__all__ = ["Ranks"]


class Ranks(Part):
    """Keeps each client at its rank: what is beyond it stays zero.

    Where A's row and B's column are zero, so are both gradients, so that local steps leave them alone. What other parts
    and gossip put there is cut. DeCAF's components come by their size, so that cutting leaves the best of that rank;
    averages of factors are cut as in HetLoRA (arXiv 2401.06432), whose mean is not kept.

    Args:
        ranks: Of each client; another part may have changed those of the federation before.
        exact: Whether clients combine products of factors, in which those of unlike ranks are alike.
        keeps_sums: Whether another part needs gossip that keeps the sums over clients of what they send.
    """

    name = "ranks"

    def __init__(self, ranks: Sequence[int], *, exact: bool, keeps_sums: bool) -> None:
        self._ranks, self._exact, self._keeps_sums = tuple(ranks), exact, keeps_sums

    def __str__(self) -> str:
        """The part with the ranks."""
        return f"{self.name}={list(self._ranks)}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation with the ranks of its clients; one that stands for all has the largest.

        Raises:
            ConfigError: The mixer or another part keeps sums of all that was sent, of which a cut would take a part; or
                another part keeps components beyond those that are trained.
        """
        if federation.spare_rank:
            raise ConfigError(
                f"ranks={list(self._ranks)}: this method keeps components beyond the rank of clients, which have to be "
                "the same for all. Use method='decaf' for clients of unlike ranks."
            )
        self._ranks = federation.ranks or self._ranks
        if federation.clients != len(self._ranks):
            self._ranks = (max(self._ranks),) * federation.clients
        notes = federation.notes
        if not federation.exchange.silent and len(set(self._ranks)) > 1 and not self._exact:
            if isinstance(federation.mixer, PushSum):
                raise ConfigError(
                    "mixer='push-sum' adds up what was sent, of which clients of a lower rank would cut a part. Use "
                    "another mixer, or the same rank for all."
                )
            if self._keeps_sums:
                raise ConfigError(
                    f"ranks={list(self._ranks)}: this method needs corrections whose sum over clients stays 0, of "
                    "which clients of a lower rank would cut a part. Use another method, or the same rank for all."
                )
            notes += (
                "Factors of unlike ranks are averaged with zeros in the place of what is missing, and cut to each "
                "client's rank, so that their mean is not kept; method='decaf' averages products.",
            )
        return replace(federation, ranks=self._ranks, notes=notes)

    def begin(self, state: State, layout: Layout) -> None:
        """Cuts the first adapters."""
        from declora.model.ranks import beyond

        self._beyond = beyond(layout, [self._ranks[client] for client in state.clients], state.adapter.device)
        self._cut(state)

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Cuts the noise of another part, which would count in the norm that a step is clipped by."""
        losses = compute()
        step.gradients.masked_fill_(self._beyond, 0.0)
        return losses

    def after_step(self, state: State, step: Step) -> None:
        """Cuts what other parts of the method have put there, a correction."""
        self._cut(state)

    def after_round(self, state: State, plan: Plan, inbox: Inbox) -> None:
        """Cuts what came from clients of a higher rank."""
        self._cut(state)

    def _cut(self, state: State) -> None:
        state.adapter.masked_fill_(self._beyond, 0.0)
