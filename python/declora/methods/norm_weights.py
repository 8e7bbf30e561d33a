"""Weights in the proportion of what adapters do: the norms of their products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

if TYPE_CHECKING:
    from declora.model import Layout

__all__ = ["product_norms", "weigh"]


def product_norms(layout: Layout, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns for each of `rows [n, D]` the Frobenius norm of its products B A over all layers, by Gram matrices."""
    import torch

    values, squares = torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.float64)
    for b, a in layout.pairs:
        left, right = layout.view(values, b.name).double(), layout.view(values, a.name).double()
        squares += ((left.mT @ left) * (right @ right.mT)).sum(dim=(1, 2))
    norms: NDArray[np.float64] = squares.clamp(min=0).sqrt().numpy()
    return norms


def weigh(weights: sp.csr_array, sizes: NDArray[np.float64]) -> sp.csr_array:
    """Returns w_ij s_j / sum_k w_ik s_k for `sizes [messages]`; a row all of whose sizes are 0 as it is."""
    entries = weights.tocoo()
    receivers, messages = entries.coords
    scaled = entries.data * sizes[messages]
    total = np.bincount(receivers, weights=scaled, minlength=weights.shape[0])[receivers]
    data = np.where(total > 0, scaled / np.where(total > 0, total, 1.0), entries.data)
    found = sp.csr_array((data, (receivers, messages)), shape=weights.shape)
    found.sort_indices()
    return found
