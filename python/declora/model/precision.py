"""Which dtype a base is faster in, on this machine: measured on one frozen layer, there and back."""

import functools
import statistics
import time

import torch
from torch import nn

from declora import process
from declora.errors import ConfigError
from declora.model.frozen import FrozenLinear

__all__ = ["check_choosable", "faster_dtype"]

_TOKENS, _WIDTH, _TURNS = 256, 768, 5
"""The product: tokens, numbers of each before and after it, and how often it is timed."""
_WORTH = 0.8
"""bfloat16 is taken where it needs at most this share of float32's time: less is not worth 8 bits of 24."""


def check_choosable(*, loaded: bool, quantized: bool) -> None:
    """Checks that there is a choice of dtypes, and one process that makes it.

    Args:
        loaded: Whether the base comes as a loaded model.
        quantized: Whether it is held in 4 bits.

    Raises:
        ConfigError: There is none; names the fix.
    """
    why = ""
    if loaded:
        why = "chooses how a base is loaded, but the model passed in is loaded. Leave dtype out"
    elif quantized:
        why = "was not measured for a base in 4 bits. Use 'float32' or 'bfloat16'"
    elif process.ranks() > 1:
        why = "would be measured by each rank for itself, and all must have the same. Use 'float32' or 'bfloat16'"
    if why:
        raise ConfigError(f"dtype='auto' {why}.")


def faster_dtype(device: torch.device) -> tuple[str, str]:
    """Returns `"bfloat16"` where products are so much faster in it that it pays, else `"float32"`, and says why."""
    share = _share_of_time(device)
    chosen = "bfloat16" if share <= _WORTH else "float32"
    where = "this CPU" if device.type == "cpu" else str(device)
    note = (
        f"dtype='auto': on {where} a frozen layer takes {share:.2f} times as long in bfloat16 as in float32, so the "
        f"base is held in {chosen}. Elsewhere it may be the other: dtype={chosen!r} keeps it."
    )
    return chosen, note


@functools.cache
def _share_of_time(device: torch.device) -> float:
    """Returns the time of a product in bfloat16 over that in float32: the median of some turns, once in a process."""
    layers = [_layer(dtype, device) for dtype in (torch.float32, torch.bfloat16)]
    turns = [[_seconds(*layer) for layer in layers] for _ in range(_TURNS + 1)]
    return statistics.median(half / full for full, half in turns[1:])


def _layer(dtype: torch.dtype, device: torch.device) -> tuple[nn.Module, torch.Tensor]:
    """Returns a layer as a run computes it, and what goes into it."""
    base = nn.Linear(_WIDTH, _WIDTH, device="meta", dtype=dtype).to_empty(device=device).requires_grad_(False)
    weight = torch.arange(_WIDTH * _WIDTH, device=device).remainder(13).sub(6).div(64)
    base.weight.copy_(weight.view(_WIDTH, _WIDTH))
    base.bias.zero_()
    layer = FrozenLinear(base) if FrozenLinear.replaces(base) else base
    return layer, torch.ones(_TOKENS, _WIDTH, dtype=dtype, device=device, requires_grad=True)


def _seconds(layer: nn.Module, x: torch.Tensor) -> float:
    """Returns how long a layer takes there and back."""
    start = time.perf_counter()
    layer(x).sum().backward()
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
