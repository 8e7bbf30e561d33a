"""Which samples a client trains on at which step."""

import numpy as np
from numpy.typing import NDArray

from declora import seeds

__all__ = ["ClientOrder", "length_slices"]


class ClientOrder:
    """A client's endless stream of samples: its shard shuffled anew each epoch.

    The order is a function of (seed, client, epoch), so a position in it is one integer: the step.
    """

    def __init__(self, shard: NDArray[np.int64], *, batch_size: int, seed: int, client: int) -> None:
        self.shard = shard
        self.batch_size = batch_size
        self._seed = seed
        self._client = client
        self._epoch = -1
        self._shuffled = shard

    def batch(self, step: int) -> NDArray[np.int64]:
        """Returns the `batch_size` sample indices of local step `step` (0-based over the whole run).

        A batch that reaches the end of an epoch goes on in the next one.
        """
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


def length_slices(lengths: NDArray[np.int64], *, smallest: int = 8, most: int = 4) -> list[NDArray[np.int64]]:
    """Returns row indices in up to `most` slices of similar length, longest first, none under `smallest` rows.

    Real sentences are short and uneven: one batch padded to its longest row is mostly padding. Longest first, so
    that the largest allocation comes first and is reused.
    """
    order = np.argsort(-lengths, kind="stable")
    return np.array_split(order, max(1, min(most, len(lengths) // smallest)))
