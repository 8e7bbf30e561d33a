"""LoRA-FAIR (arXiv 2411.14961): the mean of B is corrected, so that B A comes near to the mean product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.methods.combining import Combining
from declora.mixer import Mixer
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.model import Layout

__all__ = ["LoraFair", "correction"]


class LoraFair(Combining):
    """Clients average A, B and the head as in Dec-LoRA; then each corrects its B by what it has heard anyway.

    With mean factors B, A of a layer, and the mean product D = X_i + gamma sum_j w_ij (Z_j - Z_i) of what client i has
    heard, B becomes B + Delta, where Delta minimises

        ||D - (B + Delta) A||_F^2 + lambda ||Delta||_F^2,    Delta = (D - B A) A^T (A A^T + lambda I)^-1.

    Messages are those of Dec-LoRA; D is never formed. The paper's measure of likeness is the cosine, which it descends
    by 1,000 steps on Delta; ours is the squared error, which has this closed form. lambda -> infinity is Dec-LoRA; as
    lambda -> 0, (B + Delta) A is D projected on the rows of A. The mean of B is not kept.

    Args:
        strength: lambda, 0.01 as in the paper.
    """

    name = "lora-fair"
    source = "arXiv 2411.14961"
    options: ClassVar[Mapping[str, Option]] = {"strength": Option(whole=False, least=0.0, above=True)}

    def __init__(self, strength: float = 0.01) -> None:
        self.strength = strength

    def __str__(self) -> str:
        """The part with its strength."""
        return f"{self.name}:strength={self.strength:g}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation, with a note that the mean of B moves."""
        federation = super().arrange(federation)
        note = "method='lora-fair' moves the mean of B over clients, towards that of the products."
        return federation if federation.exchange.silent else replace(federation, notes=(*federation.notes, note))

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Mixes `rows [clients, D]` in place, and corrects B."""
        import torch

        from declora.methods.products import heard_sums

        weights, public = inbox.heard()
        own, sums = rows.copy(), heard_sums(weights, public, rows, gamma)
        sums.eliminate_zeros()
        mixer.mix(weights, public, rows, gamma=gamma)
        sources, mixed = torch.from_numpy(np.concatenate([public, own])), torch.from_numpy(rows)
        for b, a in layout.pairs:
            all_b, all_a, new_b = layout.view(sources, b.name), layout.view(sources, a.name), layout.view(mixed, b.name)
            for client, mean_a in enumerate(layout.view(mixed, a.name)):
                terms = slice(*sums.indptr[client : client + 2].tolist())
                heard, shares = sums.indices[terms].astype(np.int64), torch.from_numpy(sums.data[terms])
                delta = correction(all_b[heard], all_a[heard], shares, new_b[client], mean_a, self.strength)
                new_b[client] = new_b[client].double() + delta


def correction(
    b: torch.Tensor, a: torch.Tensor, shares: torch.Tensor, mean_b: torch.Tensor, mean_a: torch.Tensor, strength: float
) -> torch.Tensor:
    """Returns Delta, float64 `[d, r]`, of D = sum_s shares_s b_s a_s.

    Args:
        b: `[sources, d, r]`.
        a: `[sources, r, k]`.
        shares: float64 `[sources]`.
        mean_b: `[d, r]`.
        mean_a: `[r, k]`.
        strength: lambda, above 0.
    """
    import torch

    mean_a = mean_a.double()
    gram = mean_a @ mean_a.T
    left = b.double().transpose(0, 1).flatten(1)  # [d, sources r]
    right = ((a.double() * shares[:, None, None]) @ mean_a.T).flatten(0, 1)  # [sources r, r]
    residual = left @ right - mean_b.double() @ gram  # (D - B A) A^T
    found: torch.Tensor = torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=torch.float64), residual.T).T
    return found
