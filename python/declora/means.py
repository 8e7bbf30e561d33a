"""The mean of clients' rows, and how far they are from it, computed where the rows are."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from declora import _bridge, cuda

__all__ = ["consensus_distance", "weighted_mean"]


def consensus_distance(x: torch.Tensor, clients: Sequence[int]) -> float:
    """Returns the consensus distance of the rows `clients` of `x`, float32 `[N, D]`: sqrt(mean ||x_i - mean||^2)."""
    if cuda.there(x.device):
        return cuda.consensus_distance(x, clients)
    everybody = list(clients) == list(range(len(x)))
    return _bridge.consensus_distance(cuda.to_host(x if everybody else x[list(clients)]))


def weighted_mean(x: torch.Tensor, clients: Sequence[int], counts: NDArray[np.float64]) -> torch.Tensor:
    """Returns the mean of the rows `clients` of `x`, float32 `[N, D]`, where each counts `counts`: float32 `[D]`."""
    if cuda.there(x.device):
        return cuda.weighted_mean(x, clients, counts)
    # Row by row: torch's own mean would make a float64 copy of all of them.
    total = x.new_zeros(x.shape[1]).double()
    for client, count in zip(clients, counts.tolist(), strict=True):
        total.add_(x[client].double(), alpha=count)
    return (total / float(counts.sum())).float()
