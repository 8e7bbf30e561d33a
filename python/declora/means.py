"""The mean of clients' rows, and how far they are from it, computed where the rows are."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from declora import _bridge, cuda

__all__ = ["consensus_distance", "product_distance", "weighted_mean"]


def consensus_distance(x: torch.Tensor, clients: Sequence[int]) -> float:
    """Returns the consensus distance of the rows `clients` of `x`, float32 `[N, D]`: sqrt(mean ||x_i - mean||^2)."""
    if cuda.there(x.device):
        return cuda.consensus_distance(x, clients)
    return _bridge.consensus_distance(cuda.to_host(_of(x, clients)))


def product_distance(
    x: torch.Tensor, clients: Sequence[int], layers: NDArray[np.uint64], scalings: NDArray[np.float64]
) -> float:
    """Returns how far what adapters do is from its mean, which is the same for all factors with one product.

    sqrt(mean over i of the sum over layers of ||s B_i A_i - mean_j s B_j A_j||_F^2), in float64. Its square is off by
    some (d + k + N r) epsilons of the mean of (||B|| ||a_i|| + ||b_i|| ||A_i||)^2, where a_i and b_i are what factors
    differ from their means A and B by.

    Args:
        x: float32 `[N, D]`, the adapters.
        clients: Whose count.
        layers: uint64 `[L, 5]`, see `Layout.factors`.
        scalings: float64 `[L]`, s of each layer.
    """
    if cuda.there(x.device):
        return cuda.product_distance(_of(x, clients), layers, scalings)
    return _bridge.product_distance(cuda.to_host(_of(x, clients)), layers, scalings)


def weighted_mean(x: torch.Tensor, clients: Sequence[int], counts: NDArray[np.float64]) -> torch.Tensor:
    """Returns the mean of the rows `clients` of `x`, float32 `[N, D]`, where each counts `counts`: float32 `[D]`."""
    if cuda.there(x.device):
        return cuda.weighted_mean(x, clients, counts)
    # Row by row: torch's own mean would make a float64 copy of all of them.
    total = x.new_zeros(x.shape[1]).double()
    for client, count in zip(clients, counts.tolist(), strict=True):
        total.add_(x[client].double(), alpha=count)
    return (total / float(counts.sum())).float()


def _of(x: torch.Tensor, clients: Sequence[int]) -> torch.Tensor:
    """Returns the rows of some clients; `x` itself for all of them."""
    return x if list(clients) == list(range(len(x))) else x[list(clients)]
