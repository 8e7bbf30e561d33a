"""The rank-1 components of an adapter: column q of a layer's B with row q of its A, layer after layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from declora.model import Layout

__all__ = ["Components"]


class Components:
    """Which columns of a layout are of which component.

    Args:
        layout: Of the adapters.

    Attributes:
        ranks: Of each layer; their sum is the number of components.
        units: int64 `[D]`, the component of each column; -1 for those of the head.
    """

    def __init__(self, layout: Layout) -> None:
        import torch

        self._layout = layout
        self.ranks = [a.shape[0] for _, a in layout.pairs]
        units = torch.full((1, layout.columns), -1)
        for (b, a), first in zip(layout.pairs, self._firsts(), strict=True):
            numbers = first + torch.arange(a.shape[0])
            layout.view(units, b.name)[:] = numbers
            layout.view(units, a.name)[:] = numbers[:, None]
        self.units: NDArray[np.int64] = units[0].numpy()

    def _firsts(self) -> list[int]:
        return [sum(self.ranks[:layer]) for layer in range(len(self.ranks))]

    def columns(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns the columns of some components, and of the head, bool `[n, D]`, for `chosen [n, components]`."""
        always = np.ones((len(chosen), 1), dtype=np.bool_)
        found: NDArray[np.bool_] = np.concatenate([chosen, always], axis=1)[:, self.units]
        return found

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """Returns for each component the mean of `values [n, D]` over its part of B plus that over its part of A."""
        import torch

        view = self._layout.view
        found = [view(values, b.name).mean(dim=1) + view(values, a.name).mean(dim=2) for b, a in self._layout.pairs]
        return torch.cat(found, dim=1)

    def best(
        self, scores: NDArray[np.float32], counts: Sequence[Sequence[int]], draws: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Returns which components of each layer have the highest scores, bool `[n, components]`.

        Args:
            scores: `[n, components]`.
            counts: How many of each layer, `[n, layers]`.
            draws: `[n, components]`, the lower of which decides between equal scores.
        """
        found = np.zeros(scores.shape, dtype=np.bool_)
        for layer, (first, rank) in enumerate(zip(self._firsts(), self.ranks, strict=True)):
            for row, own in enumerate(counts):
                order = np.lexsort((draws[row, first : first + rank], -scores[row, first : first + rank]))
                found[row, first + order[: own[layer]]] = True
        return found
