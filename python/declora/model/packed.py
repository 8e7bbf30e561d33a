"""A padded batch in packed rows: its sequences share rows, without their padding and without seeing each other."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from declora.model.slots import ClientSlots, client_slots

__all__ = ["Packed", "pack"]


@dataclass(frozen=True)
class Packed:
    """Where the tokens of a padded batch `[R, T, ...]` are in packed rows `[B, S, ...]`.

    N tokens that are no padding, in the order of the padded batch: row by row, so client by client.
    """

    padded: tuple[int, int]
    """(R, T)."""
    shape: tuple[int, int]
    """(B, S)."""
    source: torch.Tensor
    """int64 `[N]`: each token's place in the flattened padded batch."""
    place: torch.Tensor
    """int64 `[N]`: its place in the flattened packed rows. The other places are free, and hold zeros."""
    first: torch.Tensor
    """int64 `[R]`: the place of each sequence's first token."""
    sees: torch.Tensor
    """bool `[B, S, S]`: whether a token may attend to another: to those of its own sequence."""
    slots: ClientSlots
    """The tokens client by client."""
    first_slots: ClientSlots
    """The same of the first tokens alone, each at the place of its sequence's number."""

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Returns padded `x [R or 1, T, ...]` in packed rows `[B, S, ...]`."""
        x = x.expand(self.padded[0], *x.shape[1:])
        packed = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[2:])
        packed.index_copy_(0, self.place, x.flatten(0, 1).index_select(0, self.source))
        return packed.view(*self.shape, *x.shape[2:])

    def scatter(self, x: torch.Tensor) -> torch.Tensor:
        """Returns packed `x [B, S, ...]` as a padded batch `[R, T, ...]`, zeros at padding."""
        rows, width = self.padded
        padded = x.new_zeros(rows * width, *x.shape[2:])
        padded = padded.index_copy(0, self.source, x.flatten(0, 1).index_select(0, self.place))
        return padded.view(rows, width, *x.shape[2:])

    def firsts(self) -> "Packed":
        """Returns where the first tokens of the sequences are in one row of nothing else, `[1, R]`."""
        rows = self.padded[0]
        place = torch.arange(rows, device=self.place.device)
        sees = torch.eye(rows, dtype=torch.bool, device=place.device).unsqueeze(0)
        slots = self.first_slots
        return Packed((rows, 1), (1, rows), place, place, place, sees, slots, slots)

    def mask(self, *, causal: bool, dtype: torch.dtype) -> torch.Tensor:
        """Returns what attention adds to its scores, `[B, 1, S, S]`: 0, or the least number where it may not look."""
        sees = self.sees.tril() if causal else self.sees
        least = torch.finfo(dtype).min
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, least).unsqueeze(1)


def pack(
    lengths: NDArray[np.int64],
    bins: list[NDArray[np.int64]],
    clients: NDArray[np.int64],
    *,
    width: int,
    device: torch.device,
) -> Packed:
    """Returns where the tokens of a padded batch go.

    Args:
        lengths: `[R]`: tokens of each sequence.
        bins: Which sequences share each row.
        clients: `[C]`: how many sequences each client has; they follow each other client by client.
        width: T.
        device: Where the indices are needed.
    """
    depth = max(int(lengths[members].sum()) for members in bins)
    owner = np.full((len(bins), depth), -1)
    first = np.zeros(len(lengths), dtype=np.int64)
    for row, members in enumerate(bins):
        ends = np.cumsum(lengths[members])
        first[members] = row * depth + ends - lengths[members]
        owner[row, : ends[-1]] = np.repeat(members, lengths[members])
    column = np.arange(width)
    inside = column < lengths[:, None]
    place = (first[:, None] + column)[inside]
    tokens = np.diff(np.concatenate([[0], np.cumsum(lengths)])[np.cumsum(clients)], prepend=0)

    def index(values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(values).to(device)

    return Packed(
        padded=(len(lengths), width),
        shape=(len(bins), depth),
        source=index(np.flatnonzero(inside)),
        place=index(place),
        first=index(first),
        sees=torch.from_numpy(owner[:, :, None] == owner[:, None, :]).to(device),
        slots=client_slots(place, tokens, len(bins) * depth, device),
        first_slots=client_slots(np.arange(len(lengths)), clients, len(lengths), device),
    )
