"""FedProx (Li et al. 2018, arXiv 1812.06127): local steps are held near where the round began."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from declora.methods.part import Part, Step
from declora.plan import Plan
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.state import State

__all__ = ["Prox"]


class Prox(Part):
    """A client's local objective is its loss and mu / 2 ||x - x_0||^2, x_0 its adapter when the round began.

    In the paper x_0 is the server's model; over a graph it is what gossip left the client with. The gradient of a step
    becomes g + mu (x - x_0), before it is clipped; the reported loss is the data's alone. mu=0 is Dec-LoRA.

    Args:
        mu: Strength of the pull. The paper takes the best of 0.001, 0.01, 0.1 and 1 for each task; ours is 0.01.
    """

    name = "prox"
    source = "arXiv 1812.06127"
    options: ClassVar[Mapping[str, Option]] = {"mu": Option(whole=False, least=0.0)}

    def __init__(self, mu: float = 0.01) -> None:
        self.mu = mu

    def __str__(self) -> str:
        """The part with its strength."""
        return f"{self.name}:mu={self.mu:g}"

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes where the round begins."""
        self._begin = state.adapter.clone()

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Adds the pull to the gradients of the columns that are trained."""
        losses = compute()
        for start, stop in step.phase.trained.spans:
            away = state.adapter[:, start:stop] - self._begin[:, start:stop]
            step.gradients[:, start:stop].add_(away, alpha=self.mu)
        return losses
