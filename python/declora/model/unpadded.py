"""A padded batch without its padding: tokens after one another, and who of them may see whom."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from declora.cuda import to_device
from declora.model.frozen import product_rows
from declora.model.unpadded_attention import Sequences

__all__ = ["ByClient", "Unpadded", "UnpaddedBatch", "unpad"]


# torch's grouped product refuses 1,024 groups (torch 2.11, H100).
_MOST_GROUPS = 1000


class Group(NamedTuple):
    """Clients whose rows one grouped product takes."""

    clients: slice
    rows: slice
    ends: torch.Tensor
    """int32: how many of the rows there are up to each client's last."""


@dataclass(frozen=True)
class ByClient:
    """N rows of C clients, which follow each other client by client."""

    counts: NDArray[np.int64]
    """`[C]`: how many are each client's; some may have none."""
    device: torch.device
    """Where indices are needed."""

    @property
    def most(self) -> int:
        """How many the client with most has."""
        return int(self.counts.max(initial=0))

    @functools.cached_property
    def groups(self) -> list[Group]:
        """These clients in groups of few enough for a grouped product, without such groups as have no rows."""
        found, starts = [], np.concatenate([[0], np.cumsum(self.counts)])
        for first in range(0, len(self.counts), _MOST_GROUPS):
            last = min(first + _MOST_GROUPS, len(self.counts))
            start, stop = int(starts[first]), int(starts[last])
            if stop > start:
                ends = to_device((starts[first + 1 : last + 1] - start).astype(np.int32), self.device)
                found.append(Group(slice(first, last), slice(start, stop), ends))
        return found

    @functools.cached_property
    def place(self) -> torch.Tensor:
        """int64 `[N]`: where each row is among `[C, most]`."""
        counts = self.counts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return to_device(np.repeat(np.arange(len(counts)) * self.most, counts) + within, self.device)


@dataclass(frozen=True)
class Unpadded:
    """Some tokens of a padded batch `[R, T, ...]`, N of them, unpadded as `[1, M, ...]`.

    The last M - N rows are nobody's: they start as zeros, no token sees them, and their gradient is zero.
    """

    padded: tuple[int, int]
    """(R, T)."""
    source: torch.Tensor
    """int64 `[N]`: each token's place in the flattened padded batch, ascending: so client by client."""
    by_client: ByClient
    """How many of the tokens are each client's."""
    size: int
    """M."""

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the tokens of padded `x [R or 1, T, ...]`, `[1, M, ...]`."""
        x = x.expand(self.padded[0], *x.shape[1:])
        tokens = x.flatten(0, 1).index_select(0, self.source)
        if free := self.size - len(tokens):
            tokens = functional.pad(tokens, (*(0, 0) * (tokens.dim() - 1), 0, free))
        return tokens.unsqueeze(0)

    def scatter(self, x: torch.Tensor) -> torch.Tensor:
        """Returns unpadded `x [1, M, ...]` where the tokens are in the padded batch `[R, T, ...]`, zeros elsewhere."""
        rows, width = self.padded
        padded = x.new_zeros(rows * width, *x.shape[2:])
        return padded.index_copy(0, self.source, x[0, : len(self.source)]).view(rows, width, *x.shape[2:])


@dataclass(frozen=True)
class UnpaddedBatch:
    """A padded batch unpadded."""

    tokens: Unpadded
    """All tokens that are no padding."""
    firsts: Unpadded
    """The first of each sequence alone."""
    first: torch.Tensor
    """int64 `[R]`: which of the tokens these are."""
    sequences: Sequences
    """Whom the tokens belong to while they attend to each other."""


def unpad(
    lengths: NDArray[np.int64],
    bins: list[NDArray[np.int64]],
    clients: NDArray[np.int64],
    *,
    width: int,
    device: torch.device,
) -> UnpaddedBatch:
    """Returns where the tokens of a padded batch go.

    Args:
        lengths: `[R]`: tokens of each sequence.
        bins: Which sequences share each row of attention.
        clients: `[C]`: how many sequences each client has; they follow each other client by client.
        width: T.
        device: Where the indices are needed.
    """
    count = len(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.diff(starts[np.concatenate([[0], np.cumsum(clients)])])

    def unpadded(source: NDArray[np.int64], counts: NDArray[np.int64], size: int) -> Unpadded:
        return Unpadded((count, width), to_device(source, device), ByClient(counts, device), size)

    size = int(starts[-1])
    return UnpaddedBatch(
        tokens=unpadded(
            np.flatnonzero(np.arange(width) < lengths[:, None]),
            tokens,
            product_rows(size) if device.type == "cpu" else size,
        ),
        firsts=unpadded(np.arange(count) * width, clients, count),
        first=to_device(starts[:-1], device),
        sequences=Sequences(lengths, bins, device),
    )
