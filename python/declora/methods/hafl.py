"""HAFL: each client trains and sends the components of its adapter that matter most to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.errors import ConfigError
from declora.exchange import StarExchange
from declora.methods.part import Part, Step
from declora.plan import Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["Hafl"]

_SHARE = 0.5


class Hafl(Part):
    """HAFL (2024, arXiv 2411.06581), the variant that freezes what a client does not train.

    All clients have all components q of all layers, sum_q b_q a_q^T, and compute with them. In a round client i trains
    the r_i components of each layer that have the highest scores, and sends these and the head, with a bit for each
    component. The others get no step. Gossip takes for each component the mean over those who sent it,

        v_q <- sum_j w_ij m_jq v_jq / sum_j w_ij m_jq,    unchanged where nobody did

    so that those who did not send it do not dilute it. The mean over clients is not kept.

    Scores are those of AdaLoRA (arXiv 2303.10512): each step of a client moves, for each number w of gradient g,

        s <- b1 s + (1 - b1) |w g|,    u <- b2 u + (1 - b2) | |w g| - s |

    and a component's is the mean of s u over b_q plus that over a_q. That structure is the paper's. Ours: r_i in each
    layer, not over all layers; the weights w_ij; all scores being 0 as long as B is, each client's own draw of the
    round decides between equal ones, so that clients begin with different components, and learn the others' by gossip.
    Moments of what is frozen fade, as with a gradient of 0.

    The setting `ranks` says each client's r_i; the adapters have the largest.

    Args:
        keep: Share of each layer's components that every client trains, rounded up, where `ranks` does not say it; a
            half where neither does, which is our choice.
        b1: How much of s is kept.
        b2: How much of u is kept. Both are AdaLoRA's.
    """

    name = "hafl"
    source = "arXiv 2411.06581"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "keep": Option(whole=False, least=0.0, above=True, most=1.0),
        "b1": Option(whole=False, least=0.0, most=1.0),
        "b2": Option(whole=False, least=0.0, most=1.0),
    }

    def __init__(self, keep: float | None = None, b1: float = 0.85, b2: float = 0.85) -> None:
        self.keep, self.b1, self.b2 = keep, b1, b2

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        keep = "" if self.keep is None else f"keep={self.keep:g},"
        return f"{self.name}:{keep}b1={self.b1:g},b2={self.b2:g}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation whose clients all have adapters of the largest rank.

        Raises:
            ConfigError: Both `keep` and `ranks` say how many components clients train; or a server, whose answer would
                have what any client sent.
        """
        if federation.ranks and self.keep is not None:
            raise ConfigError(
                f"method={str(self)!r} and ranks={list(federation.ranks)} both say how many components clients train. "
                "Leave keep or ranks out."
            )
        if isinstance(federation.exchange, StarExchange):
            raise ConfigError(
                f"method={str(self)!r} sends of each client some components alone, and a server's answer, all that any "
                "client sent, would be larger than what it counts. Use a graph, without fedavg."
            )
        self._seed, self._clients, self._ranks = federation.seed, federation.clients, federation.ranks
        if len(self._ranks) not in (0, federation.clients):
            self._ranks = (max(self._ranks),) * federation.clients  # one client that stands for all
        if self._ranks:
            note = (
                f"method={self.name!r} has ranks say how many components of each layer clients train and send; all "
                f"adapters have rank {max(self._ranks)}."
            )
            ranks = (max(self._ranks),) * federation.clients
            return replace(federation, ranks=ranks, notes=(*federation.notes, note))
        if self.keep is None:
            note = f"method={self.name!r} has each client train and send half of its components: keep={_SHARE}."
            return replace(federation, notes=(*federation.notes, note))
        return federation

    def begin(self, state: State, layout: Layout) -> None:
        """Finds the components, and how many of each layer each client trains."""
        from declora.methods.components import Components

        self._components = Components(layout)
        share = _SHARE if self.keep is None else self.keep
        self._counts = [
            [
                min(self._ranks[client], rank) if self._ranks else math.ceil(share * rank)
                for rank in self._components.ranks
            ]
            for client in state.clients.tolist()
        ]

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns s and u, float32 `[clients, D]`, all 0."""
        return {name: state.adapter.new_zeros(state.adapter.shape) for name in ("sensitivity", "uncertainty")}

    def before_round(self, state: State, plan: Plan) -> None:
        """Chooses each client's components of the round."""
        import torch

        scores = self._scores(state)
        everybodys = (self._clients, scores.shape[1])
        draws = seeds.generator(self._seed, "hafl", plan.event).random(everybodys, dtype=np.float32)
        self._draws = draws[state.clients]
        self._chosen = self._components.best(scores, self._counts, self._draws)
        self._frozen = torch.from_numpy(~self._components.columns(self._chosen)).to(state.adapter.device)
        self._begin = state.adapter.clone()

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients, takes the scores from them, and leaves out those of what is frozen."""
        losses = compute()
        waits = ~step.gradients.any(dim=1, keepdim=True)  # to take their rows out, a GPU would be asked how many
        importance = (state.adapter * step.gradients).abs_()
        sensitivity, uncertainty = self._smoothed(state)
        moved = self.b1 * sensitivity + (1 - self.b1) * importance
        sensitivity.copy_(sensitivity.where(waits, moved))
        importance.sub_(sensitivity).abs_()
        moved = self.b2 * uncertainty + (1 - self.b2) * importance
        uncertainty.copy_(uncertainty.where(waits, moved))
        step.gradients.masked_fill_(self._frozen, 0.0)
        return losses

    def after_step(self, state: State, step: Step) -> None:
        """Puts back what the optimizer, by momentum or weight decay, made of what is frozen."""
        state.adapter.copy_(self._begin.where(self._frozen, state.adapter))

    def units(self, layout: Layout) -> NDArray[np.int64]:
        """Returns a unit for each component."""
        return self._components.units

    def carried(self, state: State, plan: Plan) -> NDArray[np.bool_] | NDArray[np.uint8]:
        """Returns the columns of each client's components of the round, and the head."""
        return self._components.columns(self._chosen)

    def _scores(self, state: State) -> NDArray[np.float32]:
        """Returns each client's score of each component, `[clients, components]`."""
        sensitivity, uncertainty = self._smoothed(state)
        scores: NDArray[np.float32] = self._components.means(sensitivity * uncertainty).cpu().numpy()
        return scores

    def _smoothed(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        room = state.room(self.name)
        sensitivity: torch.Tensor = room["sensitivity"]  # type: ignore[assignment]
        uncertainty: torch.Tensor = room["uncertainty"]  # type: ignore[assignment]
        return sensitivity, uncertainty
