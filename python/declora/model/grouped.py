"""LoRA of many clients over packed tokens: batched products, one for all clients, with their gradients."""

from typing import Any

import torch

from declora.model.slots import ClientSlots

__all__ = ["grouped_lora"]


class _GroupedLora(torch.autograd.Function):
    """`B_c A_c x` for every token x of client c; autograd itself would record the gathers and their transposes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, slots: ClientSlots) -> torch.Tensor:
        own = slots.gather(x)  # C M I
        down = torch.bmm(own, a.transpose(1, 2))  # C M r
        ctx.save_for_backward(own, down, a, b)
        ctx.slots = slots
        return slots.scatter(torch.bmm(down, b.transpose(1, 2)))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        own, down, a, b = ctx.saved_tensors
        up_grad = ctx.slots.gather(grad)  # C M O
        down_grad = torch.bmm(up_grad, b)  # C M r
        grad_a = torch.bmm(down_grad.transpose(1, 2), own)
        # The transposed product is several times faster than that of the transposes: r is the short side.
        grad_b = torch.bmm(down.transpose(1, 2), up_grad).transpose(1, 2)
        grad_x = ctx.slots.scatter(torch.bmm(down_grad, a)) if ctx.needs_input_grad[0] else None
        return grad_x, grad_a, grad_b, None


def grouped_lora(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, slots: ClientSlots) -> torch.Tensor:
    """Returns `B_c A_c x` for each token of each client, zeros at free places.

    Args:
        x: float32 `[P, I]`: places of packed rows.
        a: float32 `[C, r, I]`.
        b: float32 `[C, O, r]`.
        slots: Which client's token is at which place.

    Returns:
        float32 `[P, O]`.
    """
    result: torch.Tensor = _GroupedLora.apply(x, a, b, slots)  # type: ignore[no-untyped-call]
    return result
