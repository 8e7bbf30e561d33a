"""The tokens of packed rows, client by client: one batched product then serves all, each with its own factors."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["ClientSlots", "client_slots"]

_MULTIPLE = 8
"""Slots of a client are a multiple of this: matrix products have a slower end where their rows are not."""


@dataclass(frozen=True)
class ClientSlots:
    """C clients with M slots each, more than any of them has tokens; P places in packed rows.

    Empty slots are idle work; with them, factors of all clients are one batched product.
    """

    clients: int
    """C."""
    place: torch.Tensor
    """int64 `[C M]`: the place of each slot's token; any place where a slot is empty."""
    empty: torch.Tensor
    """int64 `[E]`: the slots without a token, at least one."""
    slot: torch.Tensor
    """int64 `[P]`: the slot of each place's token; an empty slot where a place is free."""

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x [P, I]` as `[C, M, I]`, zeros in empty slots."""
        return x.index_select(0, self.place).index_fill_(0, self.empty, 0.0).view(self.clients, -1, x.shape[1])

    def scatter(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `x [C, M, O]`, which is zero in empty slots, as `[P, O]`, zeros in free places."""
        return x.flatten(0, 1).index_select(0, self.slot)


def client_slots(place: NDArray[np.int64], counts: NDArray[np.int64], places: int, device: torch.device) -> ClientSlots:
    """Returns the slots of tokens at `place [N]`, client by client, of which each client has `counts [C]`."""
    depth = (int(counts.max()) // _MULTIPLE + 1) * _MULTIPLE
    taken = np.flatnonzero(np.arange(depth) < counts[:, None])
    empty = np.setdiff1d(np.arange(len(counts) * depth), taken)
    source = np.zeros(len(counts) * depth, dtype=np.int64)
    source[taken] = place
    slot = np.full(places, empty[0])
    slot[place] = taken
    return ClientSlots(len(counts), *(torch.from_numpy(values).to(device) for values in (source, empty, slot)))
