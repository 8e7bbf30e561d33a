"""Sparse masks: how dense each layer is, and how a mask moves to where weights matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from declora.methods.components import Units

__all__ = ["erk_counts", "regrown", "unit_counts"]


def erk_counts(shapes: Sequence[tuple[int, int]], density: float) -> list[int]:
    """Returns how many entries of matrices of these (rows, columns) are active by the Erdos-Renyi-kernel rule.

    A layer's density is eps (rows + columns) / (rows columns), at most 1, with the eps that makes that of all layers
    together `density` (Evci et al. 2020, arXiv 1911.11134): small layers are denser. Rounded, each layer by itself; at
    least one entry is active.
    """
    sizes, sums = (np.array([of(shape) for shape in shapes]) for of in (np.prod, np.sum))
    active, full = np.zeros(len(sizes)), np.zeros(len(sizes), dtype=np.bool_)
    while not full.all():
        eps = (density * sizes.sum() - sizes[full].sum()) / sums[~full].sum()
        active = np.where(full, sizes, eps * sums)
        beyond = ~full & (active > sizes)
        if not beyond.any():
            break
        full |= beyond
        active = np.where(full, sizes, active)
    return [max(1, round(count)) for count in active.tolist()]


def unit_counts(units: Units, density: float) -> list[int]:
    """Returns how many units of each layer are active by that rule, rounded; at least one is."""
    counts = zip(erk_counts(units.shapes, density), units.shapes, units.layers, strict=True)
    return [max(1, round(count * (stop - start) / (a * b))) for count, (a, b), (start, stop) in counts]


def regrown(mask: torch.Tensor, values: torch.Tensor, scores: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the mask that drops the `count` smallest values of each row, and has as many others in their place.

    Args:
        mask: bool `[n, size]`, with at least `count` active entries in each row.
        values: float32 `[n, size]`; their magnitudes count.
        scores: float32 `[n, size]`, at least 0: of the entries that are not active then, the highest are. One that was
            dropped may come back.
        count: Of each row.
    """
    kept = mask & ~_least(values.abs().masked_fill(~mask, float("inf")), count)
    return kept | _least((-scores).masked_fill(kept, float("inf")), count)


def _least(keys: torch.Tensor, count: int) -> torch.Tensor:
    """Returns where the `count` smallest of each row of `keys` are, of equal ones the first, bool."""
    import torch

    found = torch.zeros_like(keys, dtype=torch.bool)
    return found.scatter_(1, keys.argsort(dim=1, stable=True)[:, :count], True)
