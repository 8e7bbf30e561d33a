"""A padded batch without its padding: tokens after one another, and who of them may see whom."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from declora.model.frozen import product_rows
from declora.model.packed_attention import AttentionRows

__all__ = ["Packed", "PackedBatch", "pack"]


@dataclass(frozen=True)
class Packed:
    """Some tokens of a padded batch `[R, T, ...]`, N of them, packed as `[1, M, ...]`.

    The last M - N rows are nobody's: they start as zeros, no token sees them, and their gradient is zero.
    """

    padded: tuple[int, int]
    """(R, T)."""
    source: torch.Tensor
    """int64 `[N]`: each token's place in the flattened padded batch, ascending: so client by client."""
    counts: NDArray[np.uint32]
    """`[C]`: how many of the tokens are each client's."""
    size: int
    """M."""

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the tokens of padded `x [R or 1, T, ...]`, `[1, M, ...]`."""
        x = x.expand(self.padded[0], *x.shape[1:])
        tokens = x.flatten(0, 1).index_select(0, self.source)
        free = self.size - len(tokens)
        return functional.pad(tokens, (*(0, 0) * (tokens.dim() - 1), 0, free)).unsqueeze(0)

    def scatter(self, x: torch.Tensor) -> torch.Tensor:
        """Returns packed `x [1, M, ...]` where the tokens are in the padded batch `[R, T, ...]`, zeros elsewhere."""
        rows, width = self.padded
        padded = x.new_zeros(rows * width, *x.shape[2:])
        return padded.index_copy(0, self.source, x[0, : len(self.source)]).view(rows, width, *x.shape[2:])


@dataclass(frozen=True)
class PackedBatch:
    """A padded batch packed."""

    tokens: Packed
    """All tokens that are no padding."""
    firsts: Packed
    """The first of each sequence alone."""
    first: torch.Tensor
    """int64 `[R]`: which of the tokens these are."""
    rows: AttentionRows
    """Where the tokens are while they attend to each other."""


def pack(
    lengths: NDArray[np.int64],
    bins: list[NDArray[np.int64]],
    clients: NDArray[np.int64],
    *,
    width: int,
    device: torch.device,
) -> PackedBatch:
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

    def packed(source: NDArray[np.int64], counts: NDArray[np.int64], size: int) -> Packed:
        return Packed((count, width), torch.from_numpy(source).to(device), counts.astype(np.uint32), size)

    return PackedBatch(
        tokens=packed(np.flatnonzero(np.arange(width) < lengths[:, None]), tokens, product_rows(int(starts[-1]))),
        firsts=packed(np.arange(count) * width, clients, count),
        first=torch.from_numpy(starts[:-1]).to(device),
        rows=AttentionRows(lengths, bins, device),
    )
