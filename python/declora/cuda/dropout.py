"""Dropout masks that depend on (seed, step, client, sample, number) and on nothing else, made on a GPU."""

import math

import torch

from declora.cuda.codec import signed
from declora.cuda.launch import launch, tiles_for

__all__ = ["dropout_mask"]

_TILE = 256
"""Numbers of a program."""


def dropout_mask(
    out: torch.Tensor,
    *,
    rate: float,
    seed: int,
    step: int,
    clients: torch.Tensor,
    samples: torch.Tensor,
    places: torch.Tensor,
) -> None:
    """Fills row i of `out`, float32 `[N, n]`, with numbers `places[i] * n` and following of a mask of the core.

    That is the mask of `samples[i]` of `clients[i]`, so a token has its own part of the mask of its sequence.

    Args:
        out: Contiguous.
        rate: 0 <= rate < 1 - 2^-17.
        seed: Below 2^64.
        step: Below 2^32.
        clients: int32 `[N]`, the bits of an unsigned number.
        samples: int32 `[N]`, below 2^24.
        places: int32 `[N]`; no mask has 2^31 numbers.
    """
    from declora.cuda.kernels import dropout

    rows, columns = out.shape
    tiles = tiles_for(columns, _TILE)
    launch(
        dropout.masks, rows * tiles, out, places, clients, samples, columns, tiles, signed(seed), signed(seed >> 32),
        signed(step), math.floor(rate * 65536 + 0.5), 1.0 / (1.0 - rate), TILE=_TILE,
    )  # fmt: skip
