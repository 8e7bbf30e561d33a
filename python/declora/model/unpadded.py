"""A padded batch without its padding: tokens after one another, and who of them may see whom."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from declora.model.frozen import product_rows
from declora.model.unpadded_attention import AttentionRows

__all__ = ["Unpadded", "UnpaddedBatch", "unpad"]


@dataclass(frozen=True)
class Unpadded:
    """Some tokens of a padded batch `[R, T, ...]`, N of them, unpadded as `[1, M, ...]`.

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
    rows: AttentionRows
    """Where the tokens are while they attend to each other."""


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
        return Unpadded((count, width), torch.from_numpy(source).to(device), counts.astype(np.uint32), size)

    return UnpaddedBatch(
        tokens=unpadded(np.flatnonzero(np.arange(width) < lengths[:, None]), tokens, product_rows(int(starts[-1]))),
        firsts=unpadded(np.arange(count) * width, clients, count),
        first=torch.from_numpy(starts[:-1]).to(device),
        rows=AttentionRows(lengths, bins, device),
    )
