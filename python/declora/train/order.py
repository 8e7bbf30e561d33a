"""Which samples a client trains on at which step."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from declora import seeds

__all__ = ["ClientOrder", "length_slices", "steps_per_round"]


class ClientOrder:
    """A client's endless stream of samples: its shard shuffled anew each epoch.

    The order is a function of (seed, client, epoch), so a position in it is one integer: the step.

    Args:
        shard: The client's sample indices.
        batch_size: Samples of a step.
        seed: Of the run.
        client: Names the client's own stream.
        whole_epochs: Whether an epoch ends with a batch of what is left. Otherwise every batch is full, and one that
            reaches the end of an epoch goes on in the next.
    """

    def __init__(
        self, shard: NDArray[np.int64], *, batch_size: int, seed: int, client: int, whole_epochs: bool = False
    ) -> None:
        self.shard = shard
        self.batch_size = batch_size
        self._seed = seed
        self._client = client
        self._whole_epochs = whole_epochs
        self._epoch = -1
        self._shuffled = shard

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every sample is seen: ceil(samples / batch_size)."""
        return -(-len(self.shard) // self.batch_size)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Returns the sample indices of the client's local step `step` (0-based over the whole run)."""
        if self._whole_epochs:
            epoch, place = divmod(step, self.steps_per_epoch)
            return self._order(epoch)[place * self.batch_size :][: self.batch_size]
        parts: list[NDArray[np.int64]] = []
        position, missing = step * self.batch_size, self.batch_size
        while missing:
            epoch, offset = divmod(position, len(self.shard))
            part = self._order(epoch)[offset : offset + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        return np.concatenate(parts)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._shuffled = seeds.generator(self._seed, "order", self._client, epoch).permutation(self.shard)
            self._epoch = epoch
        return self._shuffled


def steps_per_round(orders: Sequence[ClientOrder], *, steps: int | None, epochs: int | None) -> NDArray[np.int64]:
    """Returns each client's optimizer steps in a round (K), int64 `[clients]`: those of `epochs`, or `steps`."""
    if epochs is None:
        return np.full(len(orders), steps, dtype=np.int64)
    return np.array([epochs * order.steps_per_epoch for order in orders], dtype=np.int64)


def length_slices(lengths: NDArray[np.int64], *, smallest: int = 8, most: int = 4) -> list[NDArray[np.int64]]:
    """Returns row indices in up to `most` slices of similar length, longest first, none under `smallest` rows.

    Real sentences are short and uneven: one batch padded to its longest row is mostly padding. Longest first, so
    that the largest allocation comes first and is reused.
    """
    order = np.argsort(-lengths, kind="stable")
    return np.array_split(order, max(1, min(most, len(lengths) // smallest)))
