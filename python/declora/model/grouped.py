"""Products of many clients' own matrices with rows that follow each other client by client, and their gradients."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from declora import _bridge
from declora.model.unpadded import ByClient

__all__ = ["by_torch", "grouped_linear", "grouped_lora", "lora_products"]

_BY_TORCH = {"cuda"}
"""Kinds of devices on which torch multiplies, and not the core."""
# torch's grouped product wants rows of whole 16 bytes (torch 2.11, H100).
_UNIT = 8


class _GroupedLora(torch.autograd.Function):
    """All clients of the group in one call of the core: they are so small that a call for each would take longer."""

    @staticmethod
    def forward(
        ctx: Any,
        y: torch.Tensor,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        counts: NDArray[np.uint32],
        scaling: float,
    ) -> torch.Tensor:
        y, x, a, b = y.contiguous(), x.contiguous(), a.contiguous(), b.contiguous()
        tokens = int(counts.sum())
        down, out = x.new_empty(tokens, a.shape[1]), torch.empty_like(y)
        out[tokens:] = y[tokens:]
        x = x[:tokens]
        _bridge.lora_forward(x, a, b, counts, scaling=scaling, y=y[:tokens], down=down, out=out[:tokens])
        ctx.save_for_backward(x, down, a, b)
        ctx.counts, ctx.scaling = counts, scaling
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, down, a, b = ctx.saved_tensors
        grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
        tokens = len(x)
        grad_x = x.new_empty(len(grad), x.shape[1]) if ctx.needs_input_grad[1] else None
        if grad_x is not None:
            grad_x[tokens:] = 0.0
        _bridge.lora_backward(
            x, a, b, ctx.counts, scaling=ctx.scaling, grad=grad[:tokens].contiguous(), down=down,
            grad_a=grad_a, grad_b=grad_b, grad_x=None if grad_x is None else grad_x[:tokens],
        )  # fmt: skip
        return grad, grad_x, grad_a, grad_b, None, None


def grouped_lora(
    y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, rows: ByClient, *, scaling: float
) -> torch.Tensor:
    """Returns `y + scaling * B_c A_c x` for each token of each client c, in the dtype of `y`.

    On a CPU the products are in float32, and so they are on a GPU, but for tokens in bfloat16: these are multiplied as
    they are, and sums are in float32.

    Args:
        y: `[M, O]`: what the base makes of the tokens.
        x: `[M, I]`: N unpadded tokens, client by client, then M - N rows that are nobody's.
        a: float32 `[C, r, I]`.
        b: float32 `[C, O, r]`.
        rows: Whose the tokens are.
        scaling: LoRA's alpha / r.

    Returns:
        `[M, O]`, `y` in the last M - N rows.
    """
    if by_torch(x):
        tokens = int(rows.counts.sum())
        delta = lora_products(x[:tokens].to(y.dtype), a, b, rows)
        if free := len(y) - tokens:
            delta = functional.pad(delta, (0, 0, 0, free))
        return torch.add(y, delta, alpha=scaling).to(y.dtype)
    counts = rows.counts.astype(np.uint32)
    found: torch.Tensor = _GroupedLora.apply(y.float(), x.float(), a, b, counts, scaling)  # type: ignore[no-untyped-call]
    return found.to(y.dtype)


def by_torch(x: torch.Tensor) -> bool:
    """Whether torch multiplies what is where `x` is, and not the core."""
    return x.device.type in _BY_TORCH


def lora_products(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, rows: ByClient) -> torch.Tensor:
    """Returns `B_c A_c x` of each token by torch's own products, `[N, O]`: bfloat16 of such `x`, else float32."""
    if x.dtype == torch.bfloat16 and _takes_groups(x, a.shape[2], b.shape[1]):
        spare = -a.shape[1] % _UNIT  # zeros in place of ranks that are missing
        down = _grouped(x, functional.pad(a, (0, 0, 0, spare)), rows)
        return _grouped(down, functional.pad(b, (0, spare)), rows)
    spread = _spread(x.float(), rows)
    return _collected(torch.bmm(torch.bmm(spread, a.transpose(1, 2)), b.transpose(1, 2)), rows)


def grouped_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: ByClient) -> torch.Tensor:
    """Returns `W_c x + bias_c` of each row, float32 `[N, T, O]`.

    Args:
        x: float32 `[N, T, I]`.
        weight: float32 `[C, O, I]`.
        bias: float32 `[C, O]`.
        rows: Whose the N rows are.
    """
    size, tokens, inputs = x.shape
    spread = _spread(x.reshape(size, tokens * inputs), rows).view(len(weight), -1, inputs)
    turned = weight.transpose(1, 2)
    y = torch.bmm(spread, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), spread, turned)
    return _collected(y.view(len(weight), rows.most, -1), rows).view(size, tokens, -1)


def _grouped(x: torch.Tensor, weight: torch.Tensor, rows: ByClient) -> torch.Tensor:
    """Returns `W_c x` of each row of `x [N, I]` in its dtype, for `weight [C, O, I]`, by torch's grouped product."""
    product = getattr(functional, "grouped_mm", None) or torch._grouped_mm
    turned = weight.to(x.dtype).transpose(1, 2)
    parts = [product(x[group.rows], turned[group.clients], offs=group.ends) for group in rows.groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _takes_groups(x: torch.Tensor, inputs: int, outputs: int) -> bool:
    """Whether torch's grouped product takes such rows."""
    capable = not x.is_cuda or torch.cuda.get_device_capability(x.device) >= (8, 0)
    known = hasattr(functional, "grouped_mm") or hasattr(torch, "_grouped_mm")
    return known and capable and not inputs % _UNIT and not outputs % _UNIT


def _spread(x: torch.Tensor, rows: ByClient) -> torch.Tensor:
    """Returns the rows of each client beside each other, `[C, most, I]` of `x [N, I]`, and zeros where there is none.

    By indices of which each is there once: the way back adds nothing up, so a GPU gives the same bits each time.
    """
    full = x.new_zeros(len(rows.counts) * rows.most, x.shape[1])
    return full.index_copy(0, rows.place, x).view(len(rows.counts), rows.most, -1)


def _collected(y: torch.Tensor, rows: ByClient) -> torch.Tensor:
    """Returns the rows of all clients one after another again, `[N, O]` of `y [C, most, O]`."""
    return y.flatten(0, 1).index_select(0, rows.place)
