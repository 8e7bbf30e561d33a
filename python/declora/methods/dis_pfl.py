"""Dis-PFL: each client has a sparse adapter of its own, and sends what is active in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.errors import ConfigError
from declora.methods.part import Part, Step
from declora.methods.sparse import erk_counts, regrown
from declora.plan import Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["DisPfl"]


class DisPfl(Part):
    """Dis-PFL (Dai et al. 2022, arXiv 2206.00187), for the entries of A and B.

    Client i has a mask m_i over them. What is outside it is 0 after every step, x_i <- m_i x_i, and a message has what
    is inside, with a bit for each entry. Gossip takes the mean over those who have an entry,

        x_i <- m_i sum_j w_ij m_j x_j / sum_j w_ij m_j

    After the local steps of round t of T, each layer drops the share (drop / 2) (1 + cos(pi t / T)) of its active
    entries that are the smallest, and makes as many others active, which begin at 0. How many are active in a layer
    stays as it was drawn, by the Erdos-Renyi-kernel rule. The order of a round, these rules and the defaults are those
    of the authors' code, whose gradients are dense, too. Ours: the weights w_ij (there, all neighbours count the same),
    and the head, which is dense, sent whole and averaged. With density=1 it is Dec-LoRA.

    What is evaluated for all is the mean over those who have an entry, too; each client's own is what it is about.

    Args:
        density: Share of the entries of A and B that are active.
        drop: Share of a layer's active entries that the first round moves.
        regrow: `random`, as the authors' script has it, or `gradient`: where that of the client's last minibatch is
            largest.
        masks: Whether the first masks are each client's `own`, or `common` to all. They move apart from then on.
    """

    name = "dis-pfl"
    source = "arXiv 2206.00187"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "density": Option(whole=False, least=0.0, above=True, most=1.0),
        "drop": Option(whole=False, least=0.0, most=1.0),
        "regrow": Word(("random", "gradient")),
        "masks": Word(("own", "common")),
    }

    def __init__(self, density: float = 0.5, drop: float = 0.5, regrow: str = "random", masks: str = "own") -> None:
        self.density, self.drop, self.regrow, self.masks = density, drop, regrow, masks

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        return f"{self.name}:density={self.density:g},drop={self.drop:g},regrow={self.regrow},masks={self.masks}"

    @property
    def plans_ahead(self) -> bool:
        """Whether masks move by how many rounds there are in all."""
        return True

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation.

        Raises:
            ConfigError: Clients of unlike ranks, whose masks would be of unlike matrices.
        """
        if len(set(federation.ranks)) > 1:
            raise ConfigError(
                f"ranks={list(federation.ranks)}: method={self.name!r} draws each client's mask over matrices of one "
                "size. Use the same rank for all, or method='hafl', whose clients train as many components as they can."
            )
        self._seed, self._rounds = federation.seed, max(federation.rounds, 1)
        note = "method='dis-pfl' masks A and B; the head is dense, and averaged as it is."
        return replace(federation, notes=(*federation.notes, note))

    def begin(self, state: State, layout: Layout) -> None:
        """Draws the first masks, and cuts the first adapters to them."""
        import torch

        self._matrices = [block for block in layout if block.kind != "head"]
        counts = erk_counts([(block.shape[0], block.shape[1]) for block in self._matrices], self.density)
        self._active = dict(zip([block.name for block in self._matrices], counts, strict=True))
        self._first = torch.ones(state.adapter.shape, dtype=torch.bool)
        for client, row in enumerate(self._first):
            draws = seeds.generator(self._seed, "dis-pfl", client if self.masks == "own" else 0)
            for block, count in zip(self._matrices, counts, strict=True):
                row[block.start : block.stop] = False
                row[block.start + torch.from_numpy(draws.permutation(block.size)[:count])] = True
        state.adapter.masked_fill_(~self._first.to(state.adapter.device), 0.0)

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the masks, bool `[clients, D]`; all of the head is active."""
        return {"mask": self._first.to(state.adapter.device)}

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes what is outside the masks in the local steps."""
        self._outside = ~self._mask(state)
        self._dense = state.adapter.new_zeros(state.adapter.shape) if self.regrow == "gradient" else None

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients, and keeps each client's last ones where they say what is to grow."""
        losses = compute()
        if self._dense is not None:
            took = step.gradients.any(dim=1)
            self._dense[took] = step.gradients[took].abs()
        return losses

    def after_step(self, state: State, step: Step) -> None:
        """Cuts the adapters to the masks, which move after the last step of a round."""
        self._cut(state)
        if step.last:
            self._move(state, step.plan.event)
            self._cut(state)

    def units(self, layout: Layout) -> NDArray[np.int64]:
        """Returns a unit for each entry of A and B; none for those of the head."""
        units = np.full(layout.columns, -1, dtype=np.int64)
        for start, stop in layout.of_kinds("A", "B").spans:
            units[start:stop] = np.arange(start, stop)
        return units

    def carried(self, state: State, plan: Plan) -> NDArray[np.bool_]:
        """Returns the masks, bool `[clients, D]`."""
        return self._mask(state).cpu().numpy()

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Cuts what neighbours have and the client has not."""
        self._cut(state)

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns of each entry the mean over those of `clients` who have it, float32 `[D]`; 0 where nobody has."""
        from declora.means import weighted_mean

        counts = np.ones(len(clients)) if law is None else law[list(clients)]
        have = weighted_mean(self._mask(state).float(), clients, counts)
        return super().endpoint(state, layout, clients, law) / have.where(have > 0, 1.0)

    def rate(self, event: int) -> float:
        """Returns the share of a layer's active entries that round `event`, from 0 on, moves: 0 after the last one."""
        return self.drop / 2 * (1 + math.cos(math.pi * event / self._rounds))

    def _move(self, state: State, event: int) -> None:
        """Drops the smallest active entries of each layer, and makes others active."""
        import torch

        mask, scores = self._mask(state), self._dense
        if scores is None:
            shape = state.adapter.shape
            draws = [seeds.generator(self._seed, "dis-pfl", client, event) for client in range(shape[0])]
            scores = torch.from_numpy(np.stack([own.random(shape[1], dtype=np.float32) for own in draws]))
            scores = scores.to(mask.device)
        for block in self._matrices:
            own = slice(block.start, block.stop)
            count = math.ceil(self.rate(event) * self._active[block.name])
            mask[:, own] = regrown(mask[:, own], state.adapter[:, own], scores[:, own], count)
        self._outside = ~mask

    def _cut(self, state: State) -> None:
        state.adapter.masked_fill_(self._outside, 0.0)

    def _mask(self, state: State) -> torch.Tensor:
        mask: torch.Tensor = state.room(self.name)["mask"]  # type: ignore[assignment]
        return mask
