"""The adapter bank: the matrix `P`, and the layers of the base model bound to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from declora.cuda import to_device
from declora.model.layout import Layout
from declora.model.loss_scale import LossScale
from declora.model.owners import RowOwners
from declora.model.surgery import Slot

__all__ = ["AdapterBank"]


class AdapterBank:
    """All clients' adapters as one matrix, and their gradients as another.

    Attributes:
        P: float32 `[clients, D]`; row i is client i's flattened adapter.
        G: float32 `[clients, D]`; gradients, same columns.
        layout: Names the columns.
        owners: Whose rows the next forward pass computes.
        loss_scale: What losses are multiplied by on the way back; None: nothing.
    """

    def __init__(self, layout: Layout, slots: list[Slot], owners: RowOwners) -> None:
        self.layout = layout
        self.owners = owners
        self.loss_scale: LossScale | None = None
        self._slots = slots
        self.P = torch.empty(0, layout.columns, dtype=torch.float32)
        self.G = torch.empty(0, layout.columns, dtype=torch.float32)

    def fill(self, row: torch.Tensor, clients: int, device: torch.device) -> None:
        """Starts `clients` equal rows: every client has the same first adapter (A drawn once, B = 0)."""
        self.P = row.to(device).repeat(clients, 1)
        self.G = torch.zeros_like(self.P)

    @property
    def clients(self) -> int:
        """Number of rows."""
        return self.P.shape[0]

    def bind(self, values: torch.Tensor, gradients: torch.Tensor | None = None) -> None:
        """Points every batched layer at `values [C, D]` (views, no copy).

        With `gradients [C, D]` each parameter becomes a leaf on the storage of `values` whose `.grad` is the same view
        of `gradients`: `backward` then accumulates there in place. (Autograd through slices of `values` would build a
        full-size zero gradient per slice instead.)
        """
        for slot in self._slots:
            leaf = self.layout.view(values.detach(), slot.block)
            if gradients is not None:
                leaf.requires_grad_()
                leaf.grad = self.layout.view(gradients, slot.block)
            setattr(slot.layer, slot.attribute, leaf)

    @contextmanager
    def group(self, start: int, stop: int) -> Iterator[NDArray[np.float32] | None]:
        """Binds rows `start:stop` of `P` and `G` for training.

        Yields:
            What is meanwhile in `G` multiplied with, float32 `[stop - start]`, and so what losses are to be; or None.
        """
        self.bind(self.P[start:stop], self.G[start:stop])
        try:
            with self._scaled(self.G[start:stop], np.arange(start, stop)) as scales:
                yield scales
        finally:
            self.bind(self.P[start:stop])

    @contextmanager
    def examples(self, clients: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, NDArray[np.float32] | None]]:
        """Binds a row for each of some examples, a copy of its client's, so that each has a gradient of its own.

        Args:
            clients: int64 `[n]`: whose each example is.

        Yields:
            Their gradients, float32 `[n, D]`, which `backward` accumulates into; 0 so far. And what these are meanwhile
            multiplied with, as of `group`.
        """
        values = self.P.index_select(0, to_device(clients, self.P.device))
        gradients = torch.zeros_like(values)
        self.bind(values, gradients)
        try:
            with self._scaled(gradients, clients) as scales:
                yield gradients, scales
        finally:
            self.bind(self.P[:1])

    @contextmanager
    def _scaled(self, gradients: torch.Tensor, clients: NDArray[np.int64]) -> Iterator[NDArray[np.float32] | None]:
        """Multiplies `gradients [n, D]` by the scales of whose they are, which are powers of two, and divides again."""
        if self.loss_scale is None:
            yield None
            return
        scales = self.loss_scale.scales[clients]
        column = to_device(scales, gradients.device).unsqueeze(1)
        gradients.mul_(column)
        yield scales
        gradients.div_(column)

    def rows_of(self, clients: Sequence[int]) -> torch.Tensor:
        """Returns the rows of `clients`, float32 `[C, D]`: P itself, not a copy, for all of them."""
        return self.P if list(clients) == list(range(self.clients)) else self.P[list(clients)]
