"""LoRA of many clients over packed tokens: two small matrix products a client, with their gradients."""

from typing import Any

import torch

__all__ = ["grouped_lora"]


class _GroupedLora(torch.autograd.Function):
    """`B_c A_c x` for every token x of client c; autograd itself would record every slice of every client."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, place: torch.Tensor, ends: tuple[int, ...]
    ) -> torch.Tensor:
        own = x.index_select(0, place)  # N I, client by client
        down, up = own.new_empty(len(own), a.shape[1]), own.new_empty(len(own), b.shape[1])
        for c, part in enumerate(_parts(ends)):
            torch.mm(own[part], a[c].t(), out=down[part])
            torch.mm(down[part], b[c].t(), out=up[part])
        ctx.save_for_backward(own, down, a, b, place)
        ctx.ends = ends
        ctx.rows = len(x)
        return up.new_zeros(len(x), up.shape[1]).index_copy_(0, place, up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        own, down, a, b, place = ctx.saved_tensors
        up_grad = grad.index_select(0, place)
        grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
        down_grad = torch.empty_like(down)
        own_grad = torch.empty_like(own) if ctx.needs_input_grad[0] else None
        for c, part in enumerate(_parts(ctx.ends)):
            torch.mm(up_grad[part].t(), down[part], out=grad_b[c])
            torch.mm(up_grad[part], b[c], out=down_grad[part])
            torch.mm(down_grad[part].t(), own[part], out=grad_a[c])
            if own_grad is not None:
                torch.mm(down_grad[part], a[c], out=own_grad[part])
        if own_grad is None:
            return None, grad_a, grad_b, None, None
        return own_grad.new_zeros(ctx.rows, own.shape[1]).index_copy_(0, place, own_grad), grad_a, grad_b, None, None


def _parts(ends: tuple[int, ...]) -> list[slice]:
    return [slice(start, stop) for start, stop in zip((0, *ends), ends, strict=False)]


def grouped_lora(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, place: torch.Tensor, ends: tuple[int, ...]
) -> torch.Tensor:
    """Returns `B_c A_c x` for each token of each client, zeros elsewhere.

    Args:
        x: float32 `[P, I]`: places of packed rows.
        a: float32 `[C, r, I]`.
        b: float32 `[C, O, r]`.
        place: int64 `[N]`: where the tokens are among the places, client by client.
        ends: Of each client: one past its last token, of N.

    Returns:
        float32 `[P, O]`.
    """
    result: torch.Tensor = _GroupedLora.apply(x, a, b, place, ends)  # type: ignore[no-untyped-call]
    return result
