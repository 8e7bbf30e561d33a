"""HetLoRA: clients of unlike ranks, averaged with zeros for what is missing, who give up what they do not use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.methods.combining import check_whole
from declora.methods.norm_weights import product_norms, weigh
from declora.methods.part import Part, Step
from declora.mixer import Mixer
from declora.plan import Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["HetLora"]


class HetLora(Part):
    """HetLoRA (Cho et al. 2024, arXiv 2401.06432), whose clients' ranks the setting `ranks` says.

    A client of rank r_i has the first r_i components, and sends these and the head. A and B are averaged, with zeros in
    the place of what a message lacks, by weights in the proportion of what adapters do,

        v_ij = w_ij s_j / sum_k w_ik s_k,    s_j = ||B_j A_j||_F over all layers, of the message that j sent

    the head with w_ij. Its row of the mean is cut to its rank again. The mean over clients is not kept. Equal ranks and
    equal norms make it Dec-LoRA; where nobody near has learned anything yet, w_ij themselves are the weights.

    A client's objective has decay ||B_t||_F ||A_t||_F beside its loss, for the tail t of each layer: what is beyond its
    first floor(gamma r_i) components, at least 1. Where the sum over layers of that product is smaller after the local
    steps of a round than before, the tail is dropped, and r_i is the number of the others. Padding, self-pruning and
    defaults are as other implementations tell of the paper, the weights as we remember it. Ours: the graph's w_ij, and
    the head's weights. The reported loss is the data's alone. An adapter is exported at the rank that it began with,
    dropped components as zeros.

    Args:
        gamma: Share of its components that a client keeps where it drops its tail; 1 drops nothing.
        decay: Lambda, the strength of the pull on the tail.
    """

    name = "hetlora"
    source = "arXiv 2401.06432"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "gamma": Option(whole=False, least=0.0, above=True, most=1.0),
        "decay": Option(whole=False, least=0.0),
    }

    def __init__(self, gamma: float = 0.99, decay: float = 1e-3) -> None:
        self.gamma, self.decay = gamma, decay

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        return f"{self.name}:gamma={self.gamma:g},decay={self.decay:g}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation, whose clients' ranks are the first ones."""
        ranks = federation.ranks
        self._first = ranks if len(ranks) in (0, federation.clients) else (max(ranks),) * federation.clients
        if federation.exchange.silent:
            return federation
        note = (
            "method='hetlora' weighs neighbours by the norms of what they learned, and drops components, so that the "
            "mean over clients is not kept."
        )
        return replace(federation, notes=(*federation.notes, note))

    def begin(self, state: State, layout: Layout) -> None:
        """Finds the components of the layers."""
        from declora.methods.components import Components

        self._layout, self._components = layout, Components(layout)

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the clients' ranks, int64 `[clients]`."""
        most = max(self._components.ranks, default=1)
        first = np.array(self._first, dtype=np.int64)
        return {"ranks": first[state.clients] if len(first) else np.full(len(state.adapter), most, dtype=np.int64)}

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round.

        Raises:
            ConfigError: Another part of the method does not send all columns, of which the norms are.
        """
        check_whole(self, plan, "weighs messages by the products of A and B")
        return plan

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes how large the tails are."""
        self._before = self._tails(state)[0]

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Adds the pull on the tails to the gradients of the columns that are trained."""
        losses = compute()
        pull = self._tails(state)[1]
        for start, stop in step.phase.trained.spans:
            step.gradients[:, start:stop].add_(pull[:, start:stop], alpha=self.decay)
        return losses

    def after_step(self, state: State, step: Step) -> None:
        """Drops, after the last step of a round, the tails that have shrunk."""
        if step.last:
            shrunk = (self._tails(state)[0] < self._before).cpu().numpy()
            ranks = self._ranks(state)
            ranks[shrunk] = self._kept(ranks)[shrunk]
            self._cut(state)

    def units(self, layout: Layout) -> NDArray[np.int64]:
        """Returns a unit for each component."""
        return self._components.units

    def carried(self, state: State, plan: Plan) -> NDArray[np.bool_]:
        """Returns the columns within each client's rank, and the head."""
        place = np.concatenate([np.arange(rank) for rank in self._components.ranks])
        return self._components.columns(place < self._ranks(state)[:, None])

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Combines factors by the weights of the norms, zeros in the place of what a message lacks, and the head."""
        weights, public = inbox.heard()
        by_norms = weigh(weights, product_norms(layout, public))
        inbox.mix_columns(mixer, layout.of_kinds("A", "B"), rows, gamma=gamma, weights=by_norms)
        inbox.mix_columns(mixer, layout.of_kinds("head"), rows, gamma=gamma)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Cuts what came from clients of a higher rank."""
        self._cut(state)

    def _tails(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the sum over layers of ||B_t|| ||A_t||, `[clients]`, and its gradient, `[clients, D]`."""
        import torch

        from declora.cuda import to_device

        ranks, view, x = self._ranks(state), self._layout.view, state.adapter
        first, stop = (to_device(edge, x.device)[:, None] for edge in (self._kept(ranks), ranks))
        size, pull = x.new_zeros(len(x)), torch.zeros_like(x)
        for b, a in self._layout.pairs:
            place = torch.arange(a.shape[0], device=x.device)
            tail = ((place >= first) & (place < stop)).to(x.dtype)
            in_b, in_a = view(x, b.name) * tail[:, None, :], view(x, a.name) * tail[:, :, None]
            norm_b, norm_a = (part.flatten(1).norm(dim=1) for part in (in_b, in_a))
            size += norm_b * norm_a
            view(pull, b.name).copy_(in_b * _share(norm_a, norm_b))
            view(pull, a.name).copy_(in_a * _share(norm_b, norm_a))
        return size, pull

    def _kept(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the ranks that are left without the tails."""
        kept: NDArray[np.int64] = np.maximum(np.floor(self.gamma * ranks).astype(np.int64), 1)
        return kept

    def _cut(self, state: State) -> None:
        from declora.model.ranks import beyond

        state.adapter.masked_fill_(beyond(self._layout, self._ranks(state).tolist(), state.adapter.device), 0.0)

    def _ranks(self, state: State) -> NDArray[np.int64]:
        ranks: NDArray[np.int64] = state.room(self.name)["ranks"]  # type: ignore[assignment]
        return ranks


def _share(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns `one / other`, both `[n]`, as `[n, 1, 1]`; 0 where the other is 0."""
    return (one / other.where(other > 0, 1.0)).where(other > 0, 0.0)[:, None, None]
