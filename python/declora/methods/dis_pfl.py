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
from declora.methods.components import Components, Entries, Units
from declora.methods.part import Part, Step
from declora.methods.sparse import regrown, unit_counts
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
        unit: What is active or not: an `entry`, or a `component`, a column b_q of B with the row a_q of A. The rule of
            densities then sees each layer as a matrix with a row for each component, and says how many it has; the size
            of one is the mean of |b_q| plus that of |a_q|. One that is not active has b_q = 0, and a_q as it was drawn,
            since at a_q = 0 neither would have a gradient when it grows. All of this is ours.
    """

    name = "dis-pfl"
    own_scores = True
    source = "arXiv 2206.00187"
    options: ClassVar[Mapping[str, Option | Word]] = {
        "density": Option(whole=False, least=0.0, above=True, most=1.0),
        "drop": Option(whole=False, least=0.0, most=1.0),
        "regrow": Word(("random", "gradient")),
        "masks": Word(("own", "common")),
        "unit": Word(("entry", "component")),
    }

    def __init__(
        self,
        density: float = 0.5,
        drop: float = 0.5,
        regrow: str = "random",
        masks: str = "own",
        unit: str = "entry",
    ) -> None:
        self.density, self.drop, self.regrow, self.masks, self.unit = density, drop, regrow, masks, unit

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        return (
            f"{self.name}:density={self.density:g},drop={self.drop:g},regrow={self.regrow},masks={self.masks},"
            f"unit={self.unit}"
        )

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

        self._units: Units = Components(layout) if self.unit == "component" else Entries(layout)
        self._active = unit_counts(self._units, self.density)
        chosen = np.zeros((len(state.adapter), len(self._units.firsts)), dtype=np.bool_)
        for client, row in zip(state.clients.tolist(), chosen, strict=True):
            draws = seeds.generator(self._seed, "dis-pfl", client if self.masks == "own" else 0)
            for (start, stop), count in zip(self._units.layers, self._active, strict=True):
                row[start + draws.permutation(stop - start)[:count]] = True
        self._first = torch.from_numpy(self._units.columns(chosen)).to(state.adapter.device)
        self._rest = torch.zeros_like(state.adapter[0])
        if self.unit == "component":
            for start, stop in layout.of_kinds("A").spans:
                self._rest[start:stop] = state.adapter[0, start:stop]
        self._outside = ~self._first
        self._cut(state)

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the masks, bool `[clients, D]`; all of the head is active."""
        return {"mask": self._first}

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes what is outside the masks in the local steps."""
        self._outside = ~self._mask(state)
        self._dense = state.adapter.new_zeros(state.adapter.shape) if self.regrow == "gradient" else None

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients, and keeps each client's last ones where they say what is to grow."""
        losses = compute()
        if self._dense is not None:
            took = step.gradients.any(dim=1, keepdim=True)
            self._dense.copy_(step.gradients.abs().where(took, self._dense))
        return losses

    def after_step(self, state: State, step: Step) -> None:
        """Cuts the adapters to the masks, which move after the last step of a round."""
        self._cut(state)
        if step.last:
            self._move(state, step.plan.event)
            self._cut(state)

    def units(self, layout: Layout) -> NDArray[np.int64]:
        """Returns a unit for each entry of A and B, or for each component; none for the head."""
        return self._units.units

    def carried(self, state: State, plan: Plan) -> NDArray[np.bool_]:
        """Returns the masks, bool `[clients, D]`."""
        return self._mask(state).cpu().numpy()

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Cuts what neighbours have and the client has not."""
        self._cut(state)

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns of each entry the mean over those of `clients` who have it, float32 `[D]`."""
        from declora.means import weighted_mean

        counts = np.ones(len(clients)) if law is None else law[list(clients)]
        mask = self._mask(state)
        have = weighted_mean(mask.float(), clients, counts)
        mean = weighted_mean(state.adapter * mask, clients, counts)
        return (mean / have.where(have > 0, 1.0)).where(have > 0, self._rest)

    def rate(self, event: int) -> float:
        """Returns the share of a layer's active entries that round `event`, from 0 on, moves: 0 after the last one."""
        return self.drop / 2 * (1 + math.cos(math.pi * event / self._rounds))

    def _move(self, state: State, event: int) -> None:
        """Drops the smallest active units of each layer, and makes others active."""
        import torch

        mask, scores, units = self._mask(state), self._dense, self._units
        if scores is None:
            shape = state.adapter.shape
            draws = [seeds.generator(self._seed, "dis-pfl", client, event) for client in state.clients.tolist()]
            scores = torch.from_numpy(np.stack([own.random(shape[1], dtype=np.float32) for own in draws]))
            scores = scores.to(mask.device)
        sizes, scores, chosen = units.means(state.adapter.abs()), units.means(scores), mask[:, units.firsts]
        for (start, stop), active in zip(units.layers, self._active, strict=True):
            own, count = slice(start, stop), math.ceil(self.rate(event) * active)
            chosen[:, own] = regrown(chosen[:, own], sizes[:, own], scores[:, own], count)
        mask.copy_(torch.from_numpy(units.columns(chosen.cpu().numpy())))
        self._outside = ~mask

    def _cut(self, state: State) -> None:
        state.adapter.copy_(self._rest.where(self._outside, state.adapter))

    def _mask(self, state: State) -> torch.Tensor:
        mask: torch.Tensor = state.room(self.name)["mask"]  # type: ignore[assignment]
        return mask
