"""FedRot-LoRA (arXiv 2602.23638): factors are rotated to one gauge before they are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from declora.methods.combining import Combining
from declora.mixer import Mixer

if TYPE_CHECKING:
    import torch

    from declora.inbox import Inbox
    from declora.model import Layout

__all__ = ["FedRot", "rotation"]


class FedRot(Combining):
    """Each client turns what it hears into its own gauge, then averages.

    (B R)(R^T A) = B A for every orthogonal R, so clients that learned the same may hold unlike factors, whose means
    cancel. Client i turns what it hears of j by the R that brings both factors nearest to its own (Procrustes),

        R_ij = argmin ||B_j R - B_i||_F^2 + ||R^T A_j - A_i||_F^2 = U V^T,  U S V^T = B_j^T B_i + A_j A_i^T,
        B_i <- B_i + gamma sum_j w_ij (B_j R_ij - B_i),    A_i <- A_i + gamma sum_j w_ij (R_ij^T A_j - A_i),

    so a rotation of anybody's factors changes no product. The head, which has no gauge, is averaged as it is. Messages
    are those of Dec-LoRA. In the paper a server turns all to one reference; over a graph the reference is who hears,
    and that both factors count alike is our choice, too. Clients turn differently, so the mean is not kept.
    """

    name = "fedrot"
    source = "arXiv 2602.23638"

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Mixes `rows [clients, D]` in place."""
        import torch

        weights, public = inbox.heard()
        inbox.mix_columns(mixer, layout.of_kinds("head"), rows, gamma=gamma)
        own, heard = torch.from_numpy(rows), torch.from_numpy(public)
        for b, a in layout.pairs:
            of_b, of_a = (layout.view(heard, block.name).double() for block in (b, a))
            into_b, into_a = (layout.view(own, block.name) for block in (b, a))
            for client in range(len(rows)):
                terms = slice(*weights.indptr[client : client + 2].tolist())
                mine_b, mine_a = into_b[client].double(), into_a[client].double()
                moved_b, moved_a = mine_b.clone(), mine_a.clone()
                for other, share in zip(weights.indices[terms].tolist(), weights.data[terms].tolist(), strict=True):
                    if other != client:
                        turn = rotation(of_b[other], of_a[other], mine_b, mine_a)
                        moved_b.add_(of_b[other] @ turn - of_b[client], alpha=gamma * share)
                        moved_a.add_(turn.T @ of_a[other] - of_a[client], alpha=gamma * share)
                into_b[client], into_a[client] = moved_b, moved_a


def rotation(b: torch.Tensor, a: torch.Tensor, to_b: torch.Tensor, to_a: torch.Tensor) -> torch.Tensor:
    """Returns the orthogonal R `[r, r]` that brings (b R, R^T a) nearest to (to_b, to_a), all float64."""
    import torch

    u, _, vh = torch.linalg.svd(b.T @ to_b + a @ to_a.T)
    found: torch.Tensor = u @ vh
    return found
