"""What clients choose of an adapter: its entries, or its rank-1 components."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from declora.model import Layout

__all__ = ["Components", "Entries", "Units"]

Chosen = TypeVar("Chosen", np.bool_, np.uint8)


class Units(ABC):
    """Which columns of a layout are chosen together.

    Args:
        counts: How many units each layer has.
        units: int64 `[D]`, the unit of each column; -1 for those of the head, which are always chosen.

    Attributes:
        units: The same.
        layers: The (first, one past the last) unit of each layer.
        firsts: int64 `[units]`, a column of each.
    """

    def __init__(self, counts: Sequence[int], units: NDArray[np.int64]) -> None:
        self.units = units
        self.layers = list(pairwise(accumulate(counts, initial=0)))
        first: NDArray[np.int64] = np.unique(units, return_index=True)[1]
        self.firsts = first[len(first) - sum(counts) :]

    @property
    @abstractmethod
    def shapes(self) -> list[tuple[int, int]]:
        """Returns each layer as a matrix (rows, columns) of all its numbers."""

    @abstractmethod
    def means(self, values: torch.Tensor) -> torch.Tensor:
        """Returns what of `values [n, D]` there is in each unit, `[n, units]`."""

    def columns(self, chosen: NDArray[Chosen]) -> NDArray[Chosen]:
        """Returns what `chosen [n, units]` says of units for their columns, and 1 for the head, `[n, D]`."""
        always = np.ones((len(chosen), 1), dtype=chosen.dtype)
        found: NDArray[Chosen] = np.concatenate([chosen, always], axis=1)[:, self.units]
        return found


class Entries(Units):
    """The numbers of A and B, each by itself; a layer is one of these matrices.

    Args:
        layout: Of the adapters.
    """

    def __init__(self, layout: Layout) -> None:
        self._matrices = [block for block in layout if block.kind != "head"]
        units = np.full(layout.columns, -1, dtype=np.int64)
        self._columns = np.concatenate([np.arange(block.start, block.stop) for block in self._matrices])
        units[self._columns] = np.arange(len(self._columns))
        super().__init__([block.size for block in self._matrices], units)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Returns the matrices' (rows, columns)."""
        return [(block.shape[0], block.shape[1]) for block in self._matrices]

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the entries of `values [n, D]`."""
        return values[:, self._columns]


class Components(Units):
    """The rank-1 components: column q of a layer's B with row q of its A, layer after layer.

    Args:
        layout: Of the adapters.

    Attributes:
        ranks: Of each layer; their sum is the number of components.
    """

    def __init__(self, layout: Layout) -> None:
        import torch

        self._layout = layout
        self.ranks = [a.shape[0] for _, a in layout.pairs]
        units = torch.full((1, layout.columns), -1)
        for (b, a), first in zip(layout.pairs, accumulate(self.ranks, initial=0), strict=False):
            numbers = first + torch.arange(a.shape[0])
            layout.view(units, b.name)[:] = numbers
            layout.view(units, a.name)[:] = numbers[:, None]
        super().__init__(self.ranks, units[0].numpy())

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Returns each layer's (rank, numbers of a component)."""
        return [(a.shape[0], b.shape[0] + a.shape[1]) for b, a in self._layout.pairs]

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
        for layer, (first, stop) in enumerate(self.layers):
            for row, own in enumerate(counts):
                order = np.lexsort((draws[row, first:stop], -scores[row, first:stop]))
                found[row, first + order[: own[layer]]] = True
        return found
