"""What is measured of all rows at once: their mean, and how far they are from it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from declora.cuda.launch import launch, tiles_for
from declora.cuda.transfer import to_device, to_host

__all__ = ["consensus_distance", "weighted_mean"]

_WIDTH = 128
"""Columns of a program."""
_LENGTH = 1024
"""Columns of a partial sum of the distance; it fixes the order of the additions, so it is part of the result."""


def consensus_distance(x: torch.Tensor, clients: Sequence[int] | None = None) -> float:
    """Returns the consensus distance of the rows of `x`, float32 `[N, D]`, or of those of `clients`.

    sqrt(mean over i of ||x_i - mean||^2), in float64, added in the core's order: the same bits. It waits for the GPU.
    """
    from declora.cuda.kernels import columns

    rows = range(len(x)) if clients is None else clients
    if not len(rows) or not x.shape[1]:
        return 0.0
    order, counts = _listed(rows, np.ones(len(rows)), x.device)
    squares = torch.empty(x.shape[1], dtype=torch.float64, device=x.device)
    length = min(_LENGTH, 8 * tiles_for(x.shape[1], 8))
    tiles = tiles_for(x.shape[1], length)
    partial = torch.empty(tiles, dtype=torch.float64, device=x.device)
    launch(
        columns.deviations, tiles_for(x.shape[1], _WIDTH), x, x.stride(0), order, counts, squares, len(rows),
        x.shape[1], WIDTH=_WIDTH, num_warps=1,
    )  # fmt: skip
    launch(
        columns.sums, tiles_for(tiles, 32), squares, partial, x.shape[1], tiles, LENGTH=length, WIDTH=32, num_warps=1
    )
    total = np.add.accumulate(to_host(partial).numpy())[-1]  # one after the other
    return float(np.sqrt(total / len(rows)))


def weighted_mean(x: torch.Tensor, clients: Sequence[int], counts: NDArray[np.float64]) -> torch.Tensor:
    """Returns the mean of the rows `clients` of `x`, float32 `[N, D]`, in which each counts `counts`: float32 `[D]`.

    Computed in float64, row after row, each product fused with its sum.
    """
    from declora.cuda.kernels import columns

    order, shares = _listed(clients, counts, x.device)
    whole = to_device(np.array([counts.sum()]), x.device)
    out = torch.empty(x.shape[1], dtype=torch.float32, device=x.device)
    launch(
        columns.mean, tiles_for(x.shape[1], _WIDTH), x, x.stride(0), order, shares, out, whole, len(order), x.shape[1],
        WIDTH=_WIDTH, num_warps=1,
    )  # fmt: skip
    return out


def _listed(
    clients: Sequence[int], counts: NDArray[np.float64], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = np.asarray(clients, dtype=np.int32)
    return to_device(rows, device), to_device(counts.astype(np.float64), device)
