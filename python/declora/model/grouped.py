"""LoRA of many clients over packed tokens: each client's own products, with their gradients."""

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["grouped_lora"]


class _GroupedLora(torch.autograd.Function):
    """`B_c A_c x` for every token x of client c, in as few tensors and nodes as for one client."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        down = _by_client(x, a.transpose(1, 2), counts)  # N r
        ctx.save_for_backward(x, down, a, b)
        ctx.counts = counts
        return _by_client(down, b.transpose(1, 2), counts)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (x, down, a, b), counts = ctx.saved_tensors, ctx.counts
        # Products of a few columns are faster by a transposed matrix, at the price of making one.
        down_grad = _by_client(grad, b.transpose(1, 2).contiguous().transpose(1, 2), counts)  # N r
        grad_a = _of_clients(down_grad, x, counts)
        # The transposed product, too, is faster than that of the transposes: r is the short side.
        grad_b = _of_clients(down, grad, counts).transpose(1, 2)
        grad_x = _by_client(down_grad, a, counts) if ctx.needs_input_grad[0] else None
        return grad_x, grad_a, grad_b, None


def _by_client(x: torch.Tensor, factors: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Returns each client's tokens of `x [N, I]` times its own of `factors [C, I, O]`, `[N, O]`."""
    found = x.new_empty(x.shape[0], factors.shape[2])
    for part, own, factor in zip(found.split(counts), x.split(counts), factors, strict=True):
        torch.mm(own, factor, out=part)
    return found


def _of_clients(x: torch.Tensor, y: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Returns `x_c^T y_c` of each client's tokens of `x [N, I]` and `y [N, O]`, `[C, I, O]`."""
    found = x.new_empty(len(counts), x.shape[1], y.shape[1])
    for part, own, other in zip(found, x.split(counts), y.split(counts), strict=True):
        torch.mm(own.t(), other, out=part)
    return found


def grouped_lora(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Returns `B_c A_c x` for each token of each client.

    Args:
        x: float32 `[N, I]`: packed tokens, client by client.
        a: float32 `[C, r, I]`.
        b: float32 `[C, O, r]`.
        counts: How many tokens each client has, C numbers.

    Returns:
        float32 `[N, O]`.
    """
    result: torch.Tensor = _GroupedLora.apply(x, a, b, counts)  # type: ignore[no-untyped-call]
    return result
