"""What is measured of the products of all clients' factors."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["product_distance"]

_ROWS = 256
"""Rows of a sum of products that are there at once."""


def product_distance(
    x: torch.Tensor,
    layers: NDArray[np.uint64],
    scalings: NDArray[np.float64],
    clients: Sequence[int] | None = None,
) -> float:
    """Returns the consensus distance of the products of factors in the rows of `x`, float32 `[N, D]`, in float64.

    As the core computes it, but by torch, whose order of additions is another: the last bits differ. It waits for the
    GPU.

    Args:
        x: The adapters.
        layers: uint64 `[L, 5]`: the first columns of B and of A, the rank, outputs and inputs of each layer.
        scalings: float64 `[L]`, what each layer's products are multiplied by.
        clients: Whose rows count; None: all.
    """
    rows = x if clients is None else x[list(clients)]
    if not len(rows):
        return 0.0
    squares = rows.new_zeros((), dtype=torch.float64)
    for (at_b, at_a, rank, d, k), scaling in zip(layers.astype(np.int64).tolist(), scalings.tolist(), strict=True):
        b = rows[:, at_b : at_b + d * rank].view(-1, d, rank).double()
        a = rows[:, at_a : at_a + rank * k].view(-1, rank, k).double()
        squares += scaling**2 * _spread(b, a)
    mean = float(squares) / len(rows)
    return 0.0 if mean < 0 else mean**0.5


def _spread(b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Returns the sum over i of the squared distances of `b_i a_i` to their mean, for `b [N, d, r]` and `a [N, r, k]`.

    From deviations, so that nothing of the size of the mean product cancels: see `rust/core/src/products.rs`.
    """
    of_b, of_a = b - b.mean(0), a - a.mean(0)
    left = torch.cat([b.mean(0).expand_as(b), of_b], dim=2)
    right = torch.cat([of_a, a], dim=1)
    total = ((left.mT @ left) * (right @ right.mT)).sum()
    return total - _squared_norm(of_b.transpose(0, 1).flatten(1), of_a.flatten(0, 1)) / len(b)


def _squared_norm(b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Returns `||b a||_F^2` of `b [d, m]` and `a [m, k]`, by the cheaper way; the product is never there as a whole."""
    (d, m), k = b.shape, a.shape[1]
    if m * (d + k) <= d * k:
        return ((b.mT @ b) * (a @ a.mT)).sum()
    return torch.stack([(rows @ a).square().sum() for rows in b.split(_ROWS)]).sum()
