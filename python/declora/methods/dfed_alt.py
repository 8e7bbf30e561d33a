"""DFedAlt and DFedSalt (Shi et al. 2023, arXiv 2305.15157): part of an adapter is shared, part never leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from declora.errors import ConfigError
from declora.methods.part import Part, Step
from declora.plan import Columns, Phase, Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.model import Layout
    from declora.state import State

__all__ = ["DFedAlt", "DFedSalt"]


class DFedAlt(Part):
    """The local steps of a round train the personal columns v first, then the shared columns u; u alone is sent.

    A client's model is its own v with u as gossip left it: read the clients' own scores. In the averaged model, which
    is evaluated as with any method, v is a mean that nobody uses.

    Args:
        personal: What v is: "head" as in the paper, "B" (then A is shared, as in FedSA-LoRA, arXiv 2410.01463, and the
            head with it), or "A".
        share: Of the local steps, those that train v, rounded up; all others train u. The authors' code takes one epoch
            for v and five for u; so is the default, 1/6.
    """

    name = "dfed-alt"
    own_scores = True
    source = "arXiv 2305.15157"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "personal": Word(("head", "A", "B")),
        "share": Option(whole=False, least=0.0, above=True, most=0.99),
    }

    def __init__(self, personal: Literal["head", "A", "B"] = "head", share: float = 1 / 6) -> None:
        self.personal, self.share = personal, share

    def __str__(self) -> str:
        """The part with its options."""
        return f"{self.name}:personal={self.personal},share={self.share:.4g}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation, with a note on which scores count."""
        note = (
            f"With method={self.name!r} each client keeps its own {self.personal}, so its own scores are what counts; "
            "the averaged model has a mean of these, which no client uses."
        )
        return replace(federation, notes=(*federation.notes, note))

    def own(self, layout: Layout) -> Columns:
        """Returns the personal columns v.

        Raises:
            ConfigError: There are none.
        """
        own = layout.of_kinds(self.personal)
        if not own.count:
            raise ConfigError(
                f"method={str(self)!r}: this adapter has no trained {self.personal} to keep personal. Use personal=B."
            )
        return own

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which v is trained, then u, and u is sent.

        Raises:
            ConfigError: A client has a single local step, or there is no such v.
        """
        own = self.own(layout)
        if plan.steps.min(initial=2) < 2:
            raise ConfigError(
                f"method={self.name!r} trains personal and shared columns in turns, but a client has one local step a "
                "round. Set local_steps to at least 2."
            )
        phases = [phase for whole in plan.phases for phase in self._turns(whole, own)]
        return replace(plan, phases=tuple(phases), sent=plan.sent & own.rest)

    def _turns(self, phase: Phase, own: Columns) -> list[Phase]:
        first: NDArray[np.int64] = np.minimum(np.ceil(self.share * phase.steps), phase.steps - 1).astype(np.int64)
        return [Phase(first, phase.trained & own), Phase(phase.steps - first, phase.trained & own.rest)]


class DFedSalt(DFedAlt):
    """DFedAlt whose steps on u are those of SAM (Foret et al. 2020, arXiv 2010.01412): flat minima average better.

    With g the gradient in u of a minibatch, the step goes by the gradient at u + rho g / ||g||, of the same minibatch:
    each step on u costs two passes. rho=0 is DFedAlt.

    Args:
        personal: What v is, see `DFedAlt`.
        share: Of the local steps, those that train v.
        rho: Radius of the perturbation, over all of u. The source's could not be recovered; 0.05 is SAM's own.
    """

    name = "dfed-salt"
    computes_once = False
    options: ClassVar[Mapping[str, Option | Word]] = {**DFedAlt.options, "rho": Option(whole=False, least=0.0)}

    def __init__(self, personal: Literal["head", "A", "B"] = "head", share: float = 1 / 6, rho: float = 0.05) -> None:
        super().__init__(personal, share)
        self.rho = rho

    def __str__(self) -> str:
        """The part with its options."""
        return f"{super().__str__()},rho={self.rho:g}"

    def begin(self, state: State, layout: Layout) -> None:
        """Finds the personal columns."""
        self._own = self.own(layout)

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients of a step on u at the worst point near it, and those of a step on v as they are."""
        losses = compute()
        if not self.rho or (step.phase.trained & self._own).count:
            return losses
        before = state.adapter.clone()
        norms = step.gradients.norm(dim=1, keepdim=True)
        state.adapter.add_(step.gradients * (self.rho / norms.where(norms > 0, 1.0)))
        compute()
        state.adapter.copy_(before)
        return losses
