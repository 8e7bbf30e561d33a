"""Fed-SB (arXiv 2502.15436): between fixed B and A only r x r numbers of a layer are trained and sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from declora import seeds
from declora.errors import ConfigError
from declora.methods.combining import check_whole
from declora.methods.part import Part, Step
from declora.plan import Columns, Phase, Plan

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Block, Layout
    from declora.state import Array, State

__all__ = ["FedSb"]


class FedSb(Part):
    """A layer's adapter is s B R A with fixed B and A, the same for all clients; R `[r, r]`, 0 at first, is trained.

    The mean of the products is the product of the mean R, exactly, whatever the graph, and a message has r^2 numbers of
    a layer and the head. A larger rank than Dec-LoRA's costs little.

    B has orthonormal columns and A orthonormal rows, drawn from the seed: our choice, since the source's (from the SVD
    of a gradient of all clients' data) would need a round over a server before the first. Adapters are evaluated and
    exported as (B R) A, in PEFT's form.
    """

    name = "fed-sb"
    source = "arXiv 2502.15436"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation.

        Raises:
            ConfigError: Clients of unlike ranks, whose R would be of unlike sizes.
        """
        if len(set(federation.ranks)) > 1:
            raise ConfigError(
                f"ranks={list(federation.ranks)}: method={self.name!r} averages one r x r matrix of a layer, which has "
                "to be of one size. Use the same rank for all, or method='decaf' for clients of unlike ranks."
            )
        self._seed = federation.seed
        return federation

    def begin(self, state: State, layout: Layout) -> None:
        """Draws B and A, and begins at R = 0."""
        self._layout = layout
        self._fixed: list[tuple[Block, Block, torch.Tensor]] = []
        for b, a in layout.pairs:
            (d, r), k = b.shape, a.shape[1]
            left, right = (self._orthonormal(size, r, block.name, state.adapter) for size, block in ((d, b), (k, a)))
            self._fixed.append((b, a, left))
            layout.view(state.adapter, a.name)[:] = right.T
            layout.view(state.adapter, b.name).zero_()

    def _orthonormal(self, size: int, rank: int, name: str, like: torch.Tensor) -> torch.Tensor:
        """Returns orthonormal columns, float32 `[size, rank]`."""
        normal = seeds.generator(self._seed, self.name, name).standard_normal((size, rank))
        return like.new_tensor(np.linalg.qr(normal)[0].astype(np.float32))

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns R of all layers, float32 `[clients, layers, r, r]`."""
        rank = layout.pairs[0][1].shape[0]
        return {"core": state.adapter.new_zeros(len(state.adapter), len(layout.pairs), rank, rank)}

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which R and the head are trained and sent; R is kept where B is in between.

        Raises:
            ConfigError: Another part of the method sends some columns only; or ranks are unlike, or above a layer's
                width.
        """
        check_whole(self, plan, "has one matrix of a layer to send")
        self._check_ranks(layout)
        moving = layout.of_kinds("B", "head")
        phases = tuple(Phase(phase.steps, phase.trained & moving) for phase in plan.phases)
        return replace(plan, phases=phases, sent=Columns.all(self.lifted(layout).columns))

    def _check_ranks(self, layout: Layout) -> None:
        if len({a.shape[0] for _, a in layout.pairs}) > 1:
            raise ConfigError(
                f"method={self.name!r} needs one rank of all layers, but lora.rank_pattern gives them ranks of their "
                "own. Leave it out."
            )
        for b, a in layout.pairs:
            (d, rank), k = b.shape, a.shape[1]
            if rank > min(d, k):
                raise ConfigError(
                    f"method={self.name!r}: rank {rank} is above the width of {a.name.rpartition('.lora_A')[0]}, which "
                    f"is {d} by {k}. Lower lora.r to {min(d, k)}."
                )

    def before_round(self, state: State, plan: Plan) -> None:
        """Puts R in the place of B's first rows, where the optimizer finds it."""
        self._fold(state.adapter, list(self._core(state).unbind(dim=1)))

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradient of R, B^T times that of B R, into the place of B's first rows."""
        cores = [view.clone() for view in self._inner(state.adapter)]
        self._unfold(state, cores)
        losses = compute()
        gradients = [left.T @ self._layout.view(step.gradients, b.name) for b, _, left in self._fixed]
        self._fold(step.gradients, gradients)
        self._fold(state.adapter, cores)
        return losses

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of all R, then of the head."""
        from declora.model import Block, Layout

        blocks: list[Block] = []
        for b, _ in layout.pairs:
            rank, start = b.shape[1], blocks[-1].stop if blocks else 0
            blocks.append(Block(b.name.replace(".lora_B.", ".lora_R."), (rank, rank), "B", start))
        for block in layout:
            if block.kind == "head":
                blocks.append(replace(block, start=blocks[-1].stop))
        return Layout(blocks)

    def origin(self, state: State) -> torch.Tensor:
        """Returns R = 0 and the common first head."""
        return self._beside(self._core(state), state.adapter)

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns R of all layers and the head, `[clients, layers r^2 + head]`."""
        import torch

        return self._beside(torch.stack(list(self._inner(state.adapter)), dim=1), state.adapter)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes R and the head."""
        at = 0
        for view in self._inner(state.adapter):
            size = view[0].numel()
            view.copy_(mixed[:, at : at + size].view_as(view))
            at += size
        for start, stop in self._layout.of_kinds("head").spans:
            state.adapter[:, start:stop] = mixed[:, at : at + stop - start]
            at += stop - start

    def after_round(self, state: State, plan: Plan, inbox: Inbox) -> None:
        """Keeps R, and puts B R in its place, which is what the adapter does."""
        cores = [view.clone() for view in self._inner(state.adapter)]
        for layer, core in enumerate(cores):
            self._core(state)[:, layer] = core
        self._unfold(state, cores)

    def _fold(self, rows: torch.Tensor, cores: list[torch.Tensor]) -> None:
        """Puts `[clients, r, r]` of each layer in the place of B's first rows in `rows [clients, D]`, then zeros."""
        for (b, _, _), view, core in zip(self._fixed, self._inner(rows), cores, strict=True):
            self._layout.view(rows, b.name).zero_()
            view.copy_(core)

    def _unfold(self, state: State, cores: list[torch.Tensor]) -> None:
        """Puts B R in the place of B, for R `[clients, r, r]` of each layer."""
        for (b, _, left), core in zip(self._fixed, cores, strict=True):
            self._layout.view(state.adapter, b.name).copy_(left @ core)

    def _inner(self, rows: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the place of R of each layer, a view `[clients, r, r]` into `rows [clients, D]`."""
        for b, _, _ in self._fixed:
            yield self._layout.view(rows, b.name)[:, : b.shape[1]]

    def _core(self, state: State) -> torch.Tensor:
        core: torch.Tensor = state.room(self.name)["core"]  # type: ignore[assignment]
        return core

    def _beside(self, core: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        import torch

        heads = [rows[:, start:stop] for start, stop in self._layout.of_kinds("head").spans]
        return torch.cat([core.flatten(1), *heads], dim=1)
