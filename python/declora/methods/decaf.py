"""DeCAF (arXiv 2505.21382): what adapters do is combined, the products B A, and factored again at the clients' rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.methods.combining import Combining, check_whole
from declora.mixer import Mixer
from declora.plan import Plan
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.inbox import Inbox
    from declora.methods.products import Split
    from declora.model import Layout
    from declora.state import State

__all__ = ["Decaf"]


class Decaf(Combining):
    """Products are averaged where Dec-LoRA averages factors, so that no two clients' factors interfere.

    Client i sends its factors, forms the products of all that it hears, and takes for its own the factors nearest to
    X_i + gamma sum_j w_ij (Z_j - Z_i), with X_i = B_i A_i and Z_j what every holder of j's message forms of it. The
    head, which is no product, is averaged as it is. What is evaluated for all is the mean product, at the largest rank.
    Over a server, `fedavg+decaf:left=1`, it is FlexLoRA (arXiv 2402.11505).

    New factors are in other coordinates, which moments of the old ones say nothing about: AdamW's moments and momentum
    of A and B begin anew in every round, those of the head go on.

    Args:
        left: 1 to give B the singular values (B = U S, A = V^T), as FlexLoRA does; 0 to give half of them to each
            (B = U sqrt(S), A = sqrt(S) V^T).
    """

    name = "decaf"
    source = "arXiv 2505.21382"
    rank_free = True
    factors_anew = "them"
    options: ClassVar[Mapping[str, Option]] = {"left": Option(whole=True, least=0, most=1)}

    def __init__(self, *, left: int = 0) -> None:
        self.left = left

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        return f"{self.name}:left=1" if self.left else self.name

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which A and B begin without moments.

        Raises:
            ConfigError: Another part of the method does not send all columns.
        """
        check_whole(self, plan, "combines products of A and B")
        return replace(plan, fresh=plan.fresh | layout.of_kinds("A", "B"))

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Combines the products of `rows [clients, D]` in place with those that arrived, and the head by the mixer."""
        import torch

        from declora.methods.products import combine_products, heard_sums

        weights, public = inbox.heard()
        sums = heard_sums(weights, public, rows, gamma)
        inbox.mix_columns(mixer, layout.of_kinds("head"), rows, gamma=gamma)
        own, heard = torch.from_numpy(rows), torch.from_numpy(public)
        combine_products(layout, [heard, own], sums, own, split=self._split)

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns the factors nearest to the mean product of `clients`, and the mean head, float32 `[D]`."""
        from declora.methods.products import write_mean_product

        found = super().endpoint(state, layout, clients, law)
        write_mean_product(layout, state.adapter, clients, law, found, split=self._split)
        return found

    @property
    def _split(self) -> Split:
        return "left" if self.left else "balanced"
