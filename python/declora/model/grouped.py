"""LoRA of many clients over unpadded tokens on a CPU: each client's own products, with their gradients."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora import _bridge

__all__ = ["grouped_lora"]


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
    y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, counts: NDArray[np.uint32], *, scaling: float
) -> torch.Tensor:
    """Returns `y + scaling * B_c A_c x` for each token of each client c.

    Args:
        y: float32 `[M, O]`: what the base makes of the tokens.
        x: float32 `[M, I]`: N unpadded tokens, client by client, then M - N rows that are nobody's.
        a: float32 `[C, r, I]`.
        b: float32 `[C, O, r]`.
        counts: uint32 `[C]`: how many tokens each client has.
        scaling: LoRA's alpha / r.

    Returns:
        float32 `[M, O]`, `y` in the last M - N rows.
    """
    result: torch.Tensor = _GroupedLora.apply(y, x, a, b, counts, scaling)  # type: ignore[no-untyped-call]
    return result
