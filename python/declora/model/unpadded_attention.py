"""Attention of unpadded tokens: in rows of a few sequences each, which do not see each other."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

__all__ = ["ATTENTION", "AttentionRows", "UnpaddedMask"]

ATTENTION = "declora_unpadded"
"""What a model's `_attn_implementation` says for its attention to be `UnpaddedMask.attend`."""

# Up to this many places of a row, a softmax of all its scores beats PyTorch's flash attention on a CPU: forward and
# backward took 0.51, 0.56, 0.83 and 2.1 of its time at 32, 48, 128 and 256 places (a single look: 2 cores, 12 heads).
_SHORT = 128


class AttentionRows:
    """Where N unpadded tokens are in B rows of S places, sequences whole: `[B, S]` is less work than `[N, N]`.

    Args:
        lengths: `[R]`: tokens of each sequence.
        bins: Which sequences share each row.
        device: Where the indices are needed.
    """

    def __init__(self, lengths: NDArray[np.int64], bins: list[NDArray[np.int64]], device: torch.device) -> None:
        starts = np.cumsum(lengths) - lengths
        depth = max(int(lengths[members].sum()) for members in bins)
        owner = np.full((len(bins), depth), -1)
        token = np.zeros((len(bins), depth), dtype=np.int64)
        place = np.empty(int(lengths.sum()), dtype=np.int64)
        for row, members in enumerate(bins):
            tokens = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in members])
            owner[row, : len(tokens)] = np.repeat(members, lengths[members])
            token[row, : len(tokens)] = tokens
            place[tokens] = row * depth + np.arange(len(tokens))
        self.shape = token.shape
        """(B, S)."""
        self.token = torch.from_numpy(token).to(device)
        """int64 `[B, S]`: the token of each place; the first where it is free."""
        self.place = torch.from_numpy(place).to(device)
        """int64 `[N]`: the place of each token."""
        self.sees = torch.from_numpy(owner[:, :, None] == owner[:, None, :]).to(device)
        """bool `[B, S, S]`: whether a place may attend to another: to those of its own sequence, and free to free."""

    def mask(self, *, causal: bool, dtype: torch.dtype) -> torch.Tensor:
        """Returns what attention adds to its scores, `[B, 1, S, S]`: 0, or the least number where it may not look."""
        sees = self.sees.tril() if causal else self.sees
        least = torch.finfo(dtype).min
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, least).unsqueeze(1)


class UnpaddedMask:
    """What transformer blocks get for an attention mask, and hand to their attention: who is where and sees whom."""

    def __init__(self, rows: AttentionRows, *, causal: bool, dtype: torch.dtype) -> None:
        self._rows = rows
        self._mask = rows.mask(causal=causal, dtype=dtype)
        self._by_heads: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float, dropout: float
    ) -> torch.Tensor:
        """Returns the attention `[1, M, heads, d]` of query, key and value `[1, heads, M, d]`.

        The first N of M are tokens; the others, nobody's, find zeros.
        """
        _, heads, tokens, width = query.shape
        take, back = self._index(heads)
        shape = (self._rows.shape[0], heads, self._rows.shape[1], width)
        flat = [x.transpose(1, 2).reshape(tokens * heads, width) for x in (query, key, value)]
        if self._rows.shape[1] <= _SHORT and not dropout:
            found: torch.Tensor = _ShortAttention.apply(*flat, take, back, shape, self._mask, scaling)  # type: ignore[no-untyped-call]
        else:
            q, k, v = (_Take.apply(x, take, back, len(take)).view(shape) for x in flat)  # type: ignore[no-untyped-call]
            rows = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=self._mask, dropout_p=dropout, scale=scaling
            )
            found = _Take.apply(rows.reshape(-1, width), back, take, tokens * heads)  # type: ignore[no-untyped-call]
        return found.view(1, tokens, heads, width)

    def _index(self, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns which of `[N heads]` is at each of `[B heads S]`, and where in `[B heads S]` each of `[N heads]` is.

        A free place takes what it likes: it sees free places alone, and nothing sees it or takes anything from it.
        """
        if heads not in self._by_heads:
            (count, depth), token, place = self._rows.shape, self._rows.token, self._rows.place
            head = torch.arange(heads, device=token.device)
            take = token.view(count, 1, depth) * heads + head.view(heads, 1)
            row = place.div(depth, rounding_mode="floor")
            back = (row.unsqueeze(1) * heads + head) * depth + (place % depth).unsqueeze(1)
            self._by_heads[heads] = take.flatten(), back.flatten()
        return self._by_heads[heads]


def _taken(x: torch.Tensor, index: torch.Tensor, size: int) -> torch.Tensor:
    """Returns `x[index]`, then zeros, `[size, d]`, of `x [n, d]`."""
    found = x.new_empty(size, x.shape[1])
    torch.index_select(x, 0, index, out=found[: len(index)])
    found[len(index) :].zero_()
    return found


class _Take(torch.autograd.Function):
    """`x[index]`, then zeros; its gradient is taken by the index the other way, where autograd's own would add up."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor, back: torch.Tensor, size: int) -> torch.Tensor:
        ctx.back, ctx.size = back, len(x)
        return _taken(x, index, size)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return _taken(grad, ctx.back, ctx.size), None, None, None


class _ShortAttention(torch.autograd.Function):
    """Attention with all scores of a row in memory, from flat `[M heads, d]` to flat `[M heads, d]`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        take: torch.Tensor,
        back: torch.Tensor,
        shape: tuple[int, int, int, int],
        mask: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        count, heads, depth, width = shape
        q, k, v = (x.index_select(0, take).view(count * heads, depth, width) for x in (query, key, value))
        scores = torch.bmm(q, k.transpose(1, 2)).view(count, heads, depth, depth)
        weights = torch.softmax(scores.mul_(scaling).add_(mask), dim=-1).flatten(0, 1)
        ctx.save_for_backward(q, k, v, weights, take, back)
        ctx.scaling = scaling
        return _taken(torch.bmm(weights, v).view(-1, width), back, len(query))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        q, k, v, weights, take, back = ctx.saved_tensors
        size = len(grad)
        grad = grad.index_select(0, take).view_as(v)
        weights_grad = torch.bmm(grad, v.transpose(1, 2))
        scores_grad = torch._softmax_backward_data(weights_grad, weights, -1, weights.dtype).mul_(ctx.scaling)
        # Below the first adapter nothing wants a gradient: the first block's keys have none.
        products = ((scores_grad, k), (scores_grad.transpose(1, 2), q), (weights.transpose(1, 2), grad))
        grads = (
            _taken(torch.bmm(x, y).view(-1, y.shape[-1]), back, size) if wanted else None
            for (x, y), wanted in zip(products, ctx.needs_input_grad, strict=False)
        )
        return *grads, None, None, None, None, None


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: UnpaddedMask,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What `ATTENTION` names, as transformers calls it.

    Raises:
        ValueError: The model wants something of its attention that this does not do.
    """
    wanted = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if wanted:
        raise ValueError(f"unpadded attention does not do {', '.join(wanted)}")
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attention_mask.attend(query, key, value, scaling=scaling, dropout=dropout), None


AttentionInterface.register(ATTENTION, _attention)
