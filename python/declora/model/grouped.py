"""LoRA of many clients over packed tokens: a few matrix products for all of them, with their gradients."""

from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["grouped_lora"]

# Clients of a run share products: each token meets the factors of all of them, and what is not its own is set to 0.
# That is idle work, but products as small as one client's are slower still: on 2 cores with AVX2, rounds of 10 clients
# of rank 8 and batches of 4, as in benches/simulate.py, took a fifth less time like this.
_RANKS_PER_RUN = 96


class _GroupedLora(torch.autograd.Function):
    """`B_c A_c x` for every token x of client c; autograd itself would record every slice of every run."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, place: torch.Tensor, ends: tuple[int, ...]
    ) -> torch.Tensor:
        own = x.index_select(0, place)  # N I, client by client
        up, downs = own.new_empty(len(own), b.shape[1]), []
        for clients, tokens, others in _runs(ends, a.shape[1], own.device):
            down = torch.mm(own[tokens], a[clients].flatten(0, 1).t()).masked_fill_(others, 0.0)
            torch.mm(down, _stacked(b[clients]), out=up[tokens])
            downs.append(down)
        ctx.save_for_backward(own, a, b, place, *downs)
        ctx.ends = ends
        ctx.rows = len(x)
        return up.new_zeros(len(x), up.shape[1]).index_copy_(0, place, up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        own, a, b, place, *downs = ctx.saved_tensors
        up_grad = grad.index_select(0, place)
        grad_a, grad_b = torch.empty_like(a), torch.empty_like(b)
        own_grad = torch.empty_like(own) if ctx.needs_input_grad[0] else None
        for (clients, tokens, others), down in zip(_runs(ctx.ends, a.shape[1], own.device), downs, strict=True):
            down_grad = torch.mm(up_grad[tokens], _stacked(b[clients]).t()).masked_fill_(others, 0.0)
            grad_a[clients] = torch.mm(down_grad.t(), own[tokens]).view_as(a[clients])
            grad_b[clients] = torch.mm(down.t(), up_grad[tokens]).view(-1, b.shape[2], b.shape[1]).transpose(1, 2)
            if own_grad is not None:
                torch.mm(down_grad, a[clients].flatten(0, 1), out=own_grad[tokens])
        if own_grad is None:
            return None, grad_a, grad_b, None, None
        return own_grad.new_zeros(ctx.rows, own.shape[1]).index_copy_(0, place, own_grad), grad_a, grad_b, None, None


def _stacked(b: torch.Tensor) -> torch.Tensor:
    """Returns `b [C, O, r]` as `[C r, O]`."""
    return b.transpose(1, 2).flatten(0, 1)


def _runs(ends: tuple[int, ...], rank: int, device: torch.device) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Yields clients that follow each other, their tokens, and which ranks are not a token's own, bool `[N, C r]`."""
    most = max(1, _RANKS_PER_RUN // rank)
    starts = (0, *ends[:-1])
    for first in range(0, len(ends), most):
        last = min(first + most, len(ends))
        clients = torch.arange(last - first, device=device)
        counts = torch.tensor([ends[c] - starts[c] for c in range(first, last)], device=device)
        owner = torch.repeat_interleave(clients, counts)
        others = owner.unsqueeze(1) != clients.repeat_interleave(rank)
        yield slice(first, last), slice(starts[first], ends[last - 1]), others


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
