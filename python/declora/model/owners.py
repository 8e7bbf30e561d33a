"""Whose rows a forward pass computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from declora.model.unpadded import ByClient, Unpadded, UnpaddedBatch

__all__ = ["RowOwners"]


@dataclass
class RowOwners:
    """Whose rows a forward pass computes: set by `computing` around each pass, read by every batched layer."""

    owner: torch.Tensor | None = None
    """int64 `[R]`: index of each row's client within the bound group; None where the group has one client."""
    count: int = 0
    """R."""
    clients: NDArray[np.uint32] | None = None
    """`[R]`: each row's client id in the run (names its random stream)."""
    samples: NDArray[np.uint32] | None = None
    """`[R]`: each row's place among its client's samples of this round."""
    round: int = 0
    """Rounds since the start of the run, for the dropout streams."""
    training: bool = False
    """Whether LoRA dropout is on."""
    unpadded: UnpaddedBatch | None = None
    """The rows without their padding, for the blocks to compute; None where they keep it."""
    inside: Unpadded | None = None
    """Which tokens are computed just now, between the first block and the last; None outside."""

    @property
    def by_client(self) -> ByClient | None:
        """How many of the rows are each client's, where they follow each other client by client; None elsewhere."""
        return None if self.unpadded is None else self.unpadded.firsts.by_client

    @contextmanager
    def computing(
        self,
        count: int,
        *,
        owner: torch.Tensor | None = None,
        unpadded: UnpaddedBatch | None = None,
        clients: NDArray[np.uint32] | None = None,
        samples: NDArray[np.uint32] | None = None,
        round: int = 0,
        training: bool = False,
    ) -> Iterator[None]:
        """Has passes inside compute these `count` rows; what the fields mean is said there."""
        given = RowOwners(owner, count, clients, samples, round, training, unpadded)
        vars(self).update(vars(given))
        try:
            yield
        finally:
            vars(self).update(vars(RowOwners()))
