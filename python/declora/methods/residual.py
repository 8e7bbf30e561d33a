"""FLoRA and FedEx-LoRA: products are combined exactly; what factors of rank r cannot say stays as frozen components."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import seeds
from declora.methods.combining import Combining, check_whole
from declora.methods.part import Step
from declora.mixer import Mixer
from declora.plan import Plan
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["FedEx", "Flora"]


class _Residual(Combining):
    """Every layer's adapter is s (B A + R): B A of rank r is trained, R of rank q, q components beyond, is not.

    In a round both are sent. Client i forms the mean D = X_i + gamma sum_j w_ij (Z_j - Z_i) of all that it heard, X = B
    A + R, chooses its next B A, and keeps R = D - B A: what its layers do is mixed exactly, as long as R has rank at
    most q. Beyond, R is its best approximation of rank q, and the next r components of what was cut are added in the
    next round, by the client itself.

    On a server R is merged into the base, whose weights all clients share. Over a graph bases would drift apart, so R
    is gossiped: a message has r + q components of each layer where Dec-LoRA's has r. Adapters are exported with all r +
    q components, in PEFT's form. The form for graphs, the cut, and what is done with it are ours.
    """

    options: ClassVar[Mapping[str, Option]] = {"residual": Option(whole=True, least=1, most=4096)}
    rank_free = True
    factors_anew = "the residual"

    def __init__(self, residual: int) -> None:
        self.residual = residual

    def __str__(self) -> str:
        """The part with the rank of R."""
        return f"{self.name}:residual={self.residual}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation whose adapters have q components more."""
        federation = super().arrange(federation)
        note = (
            f"method={str(self)!r} sends {self.residual} components of each layer beside those that are trained, and "
            "saves adapters with all of them."
        )
        self._seed = federation.seed
        return replace(federation, spare_rank=self.residual, notes=(*federation.notes, note))

    def begin(self, state: State, layout: Layout) -> None:
        """Begins without a residual."""
        self._layout, self._rank = layout, layout.pairs[0][1].shape[0] - self.residual
        for view in self._residuals(state.adapter):
            view.zero_()

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns what was cut of each client's residual, as factors: float32 `[clients, D]`."""
        return {"cut": state.adapter.new_zeros(state.adapter.shape)}

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round.

        Raises:
            ConfigError: Another part of the method does not send all columns.
        """
        check_whole(self, plan, "combines products of A and B")
        return plan

    def before_round(self, state: State, plan: Plan) -> None:
        """Notes the residuals, which local steps leave as they are."""
        self._kept = [(view, view.clone()) for view in self._residuals(state.adapter)]

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients of the factors; those of the residual are zero."""
        losses = compute()
        for view in self._residuals(step.gradients):
            view.zero_()
        return losses

    def after_step(self, state: State, step: Step) -> None:
        """Gives residuals their values back, of which weight decay takes a part."""
        for view, values in self._kept:
            view.copy_(values)

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Combines the products of `rows [clients, D]` in place with those that arrived, and the head by the mixer."""
        import torch

        from declora.methods.products import combine_products, heard_sums

        weights, public = inbox.heard()
        one = sp.eye_array(len(rows), format="csr")
        sums = sp.csr_array(sp.hstack([heard_sums(weights, public, rows, gamma), -one, one]))
        own, heard = torch.from_numpy(rows.copy()), torch.from_numpy(public)
        mixer.mix(weights, public, rows, gamma=gamma)
        mixed = torch.from_numpy(rows)
        self._next(mixed, layout)
        found, cut = torch.zeros_like(mixed), torch.zeros_like(mixed)
        cut[inbox.here] = self._cut
        combine_products(layout, [heard, own, mixed, cut], sums, found)
        self._split(layout, found, mixed, cut)
        self._cut.copy_(cut[inbox.here])

    def _next(self, mixed: torch.Tensor, layout: Layout) -> None:
        """Chooses the next B A in `mixed [clients, D]`, and leaves no residual in it."""
        for view in self._residuals(mixed):
            view.zero_()

    def _split(self, layout: Layout, found: torch.Tensor, mixed: torch.Tensor, cut: torch.Tensor) -> None:
        """Takes q components of `found [clients, D]`, which come by their size, as residual, and the next as `cut`."""
        r, q = self._rank, self.residual
        cut.zero_()
        for b, a in layout.pairs:
            of_b, of_a = layout.view(found, b.name), layout.view(found, a.name)
            layout.view(mixed, b.name)[:, :, r:], layout.view(mixed, a.name)[:, r:] = of_b[:, :, :q], of_a[:, :q]
            layout.view(cut, b.name)[:, :, :r] = of_b[:, :, q:]
            layout.view(cut, a.name)[:, :r] = of_a[:, q:]

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns the adapters."""
        self._cut: torch.Tensor = state.room(self.name)["cut"]  # type: ignore[assignment]
        self._event = plan.event
        return state.adapter

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns the factors of rank r + q nearest to the mean product of `clients`, and the mean head."""
        from declora.methods.products import write_mean_product

        found = super().endpoint(state, layout, clients, law)
        write_mean_product(layout, state.adapter, clients, law, found)
        return found

    def _residuals(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Returns the factors of R of all layers, as views into `rows [clients, D]`."""
        views = []
        for b, a in self._layout.pairs:
            of_b, of_a = (self._layout.view(rows, block.name) for block in (b, a))
            views += [of_b[:, :, self._rank :], of_a[:, self._rank :]]
        return views


class FedEx(_Residual):
    """FedEx-LoRA (arXiv 2410.09432): the next factors are the means of A and B, the residual what these do not say.

    Where all clients have the same A there is none.

    Args:
        residual: q, 16 by default. With q = min(d, k) nothing is ever cut.
    """

    name = "fedex-lora"
    source = "arXiv 2410.09432"

    def __init__(self, residual: int = 16) -> None:
        super().__init__(residual)


class Flora(_Residual):
    """FLoRA (arXiv 2409.05976): all that was learned goes into the residual, and clients begin anew beside it.

    The stacked factors of all that a client hears are their weighted sum exactly. B begins at 0 and A is drawn anew in
    every round, the same for all clients (uniform, as LoRA draws it); their moments begin anew, too.

    Args:
        residual: q, 32 by default. All that is learned has to fit into it.
    """

    name = "flora"
    source = "arXiv 2409.05976"

    def __init__(self, residual: int = 32) -> None:
        super().__init__(residual)

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which A and B begin without moments."""
        return replace(super().plan(plan, layout), fresh=plan.fresh | layout.of_kinds("A", "B"))

    def _next(self, mixed: torch.Tensor, layout: Layout) -> None:
        """Begins anew."""
        super()._next(mixed, layout)
        draws = seeds.generator(self._seed, self.name, self._event)
        for b, a in layout.pairs:
            layout.view(mixed, b.name).zero_()
            bound, size = a.shape[1] ** -0.5, (self._rank, a.shape[1])
            drawn = draws.uniform(-bound, bound, size).astype(np.float32)
            layout.view(mixed, a.name)[:, : self._rank] = mixed.new_tensor(drawn)
