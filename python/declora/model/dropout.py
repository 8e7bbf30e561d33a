"""LoRA dropout: masks of the rows of a pass, each drawn from its own client's stream."""

import numpy as np
import torch
from numpy.typing import NDArray

from declora import _bridge, cuda
from declora.errors import ModelError
from declora.model.owners import RowOwners
from declora.model.unpadded import Unpadded

__all__ = ["row_masks", "token_masks"]


def row_masks(
    owners: RowOwners, shape: tuple[int, int, int], *, rate: float, seed: int, device: torch.device
) -> torch.Tensor:
    """Returns masks `[R, T, I]`, float32: a client's entries depend on its own stream and nothing else.

    Of fewer rows than the pass has, the first ones are meant.

    Args:
        owners: Of the pass.
        shape: (R, T, I).
        rate: Of the entries that are 0; the others are 1 / (1 - rate).
        seed: Of the layer.
        device: Where the masks are needed.

    Raises:
        ModelError: The pass does not say whose its rows are.
    """
    count, width, inputs = shape
    if cuda.there(device):
        every = torch.arange(count * width, device=device)
        return _by_kernel(owners, every, width, inputs, rate=rate, seed=seed).view(shape)
    mask = torch.empty(count, width * inputs, dtype=torch.float32)
    clients, samples = _streams(owners)
    _bridge.dropout_mask(
        mask, rate=rate, seed=seed, step=owners.round, clients=clients[:count], samples=samples[:count]
    )
    return mask.view(shape).to(device)


def token_masks(
    owners: RowOwners, tokens: Unpadded, inputs: int, *, rate: float, seed: int, device: torch.device
) -> torch.Tensor:
    """Returns the entries of `row_masks` that are those of `tokens`, `[1, M, inputs]`."""
    rows, width = tokens.padded
    if cuda.there(device):
        mask = _by_kernel(owners, tokens.source, width, inputs, rate=rate, seed=seed)
        return mask.unsqueeze(0)
    return tokens.gather(row_masks(owners, (rows, width, inputs), rate=rate, seed=seed, device=device))


def _by_kernel(
    owners: RowOwners, source: torch.Tensor, width: int, inputs: int, *, rate: float, seed: int
) -> torch.Tensor:
    """Returns the masks of the tokens that are at `source [N]` of the flattened rows, `[N, inputs]`."""
    clients, samples = (cuda.to_device(stream.view(np.int32), source.device) for stream in _streams(owners))
    row, places = source.div(width, rounding_mode="floor"), (source % width).int()
    out = torch.empty(len(source), inputs, dtype=torch.float32, device=source.device)
    cuda.dropout_mask(
        out, rate=rate, seed=seed, step=owners.round, clients=clients[row], samples=samples[row], places=places
    )
    return out


def _streams(owners: RowOwners) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    if owners.clients is None or owners.samples is None:
        raise ModelError("dropout needs each row's client and sample.")
    return owners.clients, owners.samples
