"""Attention of unpadded tokens, whose sequences do not see each other: in rows of a few each, or as they lie.

On a GPU in half precision, flash attention takes sequences of any lengths as they lie one after another. Elsewhere they
are put into rows that a few share (Krell et al. 2021, arXiv 2107.02027), for attention alone.
"""

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from declora.cuda import to_device
from declora.model.outside import call, numbered

__all__ = ["ATTENTION", "AttentionRows", "Sequences", "UnpaddedMask"]

ATTENTION = "declora_unpadded"
"""What a model's `_attn_implementation` says for its attention to be `UnpaddedMask.attend`."""

# Up to this many places of a row, a softmax of all its scores beats PyTorch's flash attention on a CPU: forward and
# backward took 0.51, 0.56, 0.83 and 2.1 of its time at 32, 48, 128 and 256 places (a single look: 2 cores, 12 heads).
_SHORT = 128
# What flash attention computes: heads of up to so many numbers, in multiples of eight.
_MOST_WIDTH, _WIDTH_UNIT = 256, 8


class AttentionRows:
    """Where N unpadded tokens are in B rows of S places, sequences whole: `[B, S]` is less work than `[N, N]`.

    Args:
        lengths: `[R]`: tokens of each sequence.
        bins: Which sequences share each row.
        device: Where the indices are needed.
    """

    def __init__(self, lengths: NDArray[np.int64], bins: list[NDArray[np.int64]], device: torch.device) -> None:
        starts = np.cumsum(lengths) - lengths
        members, sharing = np.concatenate(bins), np.array([len(row) for row in bins])
        taken = lengths[members]
        before = np.cumsum(taken) - taken  # tokens of the members before each, in all rows
        first = before - np.repeat(before[np.cumsum(sharing) - sharing], sharing)  # ... in its own row
        depth = int((first + taken).max())
        within = np.arange(taken.sum()) - np.repeat(before, taken)
        row = np.repeat(np.repeat(np.arange(len(bins)), sharing), taken)
        places = row * depth + np.repeat(first, taken) + within
        tokens = np.repeat(starts[members], taken) + within
        self.shape = (len(bins), depth)
        """(B, S)."""
        owner, token = np.full(len(bins) * depth, -1), np.zeros(len(bins) * depth, dtype=np.int64)
        owner[places], token[places] = np.repeat(members, taken), tokens
        place = np.empty(len(tokens), dtype=np.int64)
        place[tokens] = places
        self.token = to_device(token.reshape(self.shape), device)
        """int64 `[B, S]`: the token of each place; the first where it is free."""
        self.place = to_device(place, device)
        """int64 `[N]`: the place of each token."""
        sequence = to_device(owner.reshape(self.shape), device)
        self.sees = sequence.unsqueeze(2) == sequence.unsqueeze(1)
        """bool `[B, S, S]`: whether a place may attend to another: to those of its own sequence, and free to free."""

    def mask(self, *, causal: bool, dtype: torch.dtype, window: int | None = None) -> torch.Tensor:
        """Returns what attention adds to its scores, `[B, 1, S, S]`: 0, or the least number where it may not look.

        With `window`, tokens see those that are less than so many places away.
        """
        sees = self.sees if window is None else self.sees.triu(1 - window).tril(window - 1)
        sees = sees.tril() if causal else sees
        least = torch.finfo(dtype).min
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, least).unsqueeze(1)


class Sequences:
    """Sequences of R lengths whose N tokens follow each other.

    Args:
        lengths: `[R]`.
        bins: Which of them share each row, where attention needs rows.
        device: Where indices are needed.
    """

    def __init__(self, lengths: NDArray[np.int64], bins: list[NDArray[np.int64]], device: torch.device) -> None:
        self._lengths, self._bins, self._device = lengths, bins, device
        self.longest = int(lengths.max())

    @functools.cached_property
    def rows(self) -> AttentionRows:
        """Where their tokens are in rows."""
        return AttentionRows(self._lengths, self._bins, self._device)

    @functools.cached_property
    def starts(self) -> torch.Tensor:
        """int32 `[R + 1]`: where each sequence starts, and the last one ends."""
        return to_device(np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int32), self._device)


class UnpaddedMask:
    """What transformer blocks get for an attention mask, and hand to their attention: who is where and sees whom."""

    def __init__(self, sequences: Sequences, *, causal: bool, dtype: torch.dtype) -> None:
        self._sequences = sequences
        self._causal = causal
        self._dtype = dtype
        self._masks: dict[int | None, torch.Tensor] = {}
        self._by_heads: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.windows: set[int | None] = set()
        """Those that attention was asked for."""
        self.number = numbered(self)
        """By which programs find this mask."""
        self.leaves = ()
        """Of what is trained it has nothing."""

    def outside(
        self, base: torch.Tensor | None, inputs: Sequence[torch.Tensor], options: Sequence[float]
    ) -> torch.Tensor:
        """Returns what `attend` does, for programs.

        Args:
            base: Nothing.
            inputs: Query, key and value.
            options: Scaling, window and softcap; 0 where there is no such.
        """
        scaling, window, softcap = options
        return self.attend(*inputs, scaling=scaling, window=int(window) or None, softcap=softcap or None)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        dropout: float = 0.0,
        window: int | None = None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        """Returns the attention `[1, M, heads, d]` of query, key and value `[1, heads, M, d]`.

        The first N of M are tokens; the others, nobody's, find zeros. Of key and value there may be fewer heads, each
        for several of the query's.

        Args:
            query: What looks.
            key: What it looks at.
            value: What it finds.
            scaling: Of the scores.
            dropout: Share of weights that are dropped.
            window: Tokens see those that are less than so many places away; None: all.
            softcap: Scores s become softcap * tanh(s / softcap); None: they stay (Gemma 2, arXiv 2408.00118).
        """
        sharing = query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, sharing), repeat_kv(value, sharing)
        self.windows.add(window)
        if window is not None and window >= self._sequences.longest:
            window = None  # nothing is so far away
        if softcap is None and not dropout and _flash(query, value):
            return self._as_they_lie(query, key, value, scaling, window)
        return self._in_rows(query, key, value, scaling, dropout, window, softcap)

    def _as_they_lie(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))  # N heads d
        back = -1 if window is None else window - 1
        starts, longest = self._sequences.starts, self._sequences.longest
        usual = q.shape[-1] ** -0.5
        options: dict[str, Any] = {"window_size": (back, 0 if self._causal else back)}
        if "scale" in inspect.signature(_varlen_attn()).parameters:
            options["scale"] = scaling
        elif scaling != usual:
            q = q * (scaling / usual)
        found: torch.Tensor = _varlen_attn()(q, k, v, starts, starts, longest, longest, **options)
        return found.unsqueeze(0)

    def _in_rows(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        dropout: float,
        window: int | None,
        softcap: float | None,
    ) -> torch.Tensor:
        heads, tokens = query.shape[1:3]
        take, back = self._index(heads)
        count, depth = self._sequences.rows.shape
        mask = self._mask(window)
        flat = [x.transpose(1, 2).reshape(tokens * heads, x.shape[-1]) for x in (query, key, value)]
        if depth <= _SHORT and not dropout and softcap is None:
            shape = (count, heads, depth)
            found: torch.Tensor = _ShortAttention.apply(*flat, take, back, shape, mask, scaling)  # type: ignore[no-untyped-call]
        else:
            q, k, v = (_Take.apply(x, take, back, len(take)).view(count, heads, depth, -1) for x in flat)  # type: ignore[no-untyped-call]
            if softcap is None:
                rows = functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling
                )
            else:
                scores = softcap * torch.tanh(q @ k.transpose(2, 3) * scaling / softcap) + mask
                precise = torch.promote_types(scores.dtype, torch.float32)
                weights = torch.softmax(scores, dim=-1, dtype=precise).to(v.dtype)
                rows = functional.dropout(weights, dropout) @ v
            found = _Take.apply(rows.reshape(-1, rows.shape[-1]), back, take, tokens * heads)  # type: ignore[no-untyped-call]
        return found.view(1, tokens, heads, -1)

    def _mask(self, window: int | None) -> torch.Tensor:
        if window not in self._masks:
            rows = self._sequences.rows
            self._masks[window] = rows.mask(causal=self._causal, dtype=self._dtype, window=window)
        return self._masks[window]

    def _index(self, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns which of `[N heads]` is at each of `[B heads S]`, and where in `[B heads S]` each of `[N heads]` is.

        A free place takes what it likes: it sees free places alone, and nothing sees it or takes anything from it.
        """
        if heads not in self._by_heads:
            rows = self._sequences.rows
            (count, depth), token, place = rows.shape, rows.token, rows.place
            head = torch.arange(heads, device=token.device)
            take = token.view(count, 1, depth) * heads + head.view(heads, 1)
            row = place.div(depth, rounding_mode="floor")
            back = (row.unsqueeze(1) * heads + head) * depth + (place % depth).unsqueeze(1)
            self._by_heads[heads] = take.flatten(), back.flatten()
        return self._by_heads[heads]


def _flash(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether flash attention computes these as they lie: on a GPU in half precision, of heads that it has room for."""
    width = query.shape[-1]
    fits = width == value.shape[-1] and width <= _MOST_WIDTH and width % _WIDTH_UNIT == 0
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and fits and _varlen_attn() is not None


@functools.cache
def _varlen_attn() -> Any:
    """Returns torch's attention of sequences of any lengths, None where it has none that takes windows."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


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
        shape: tuple[int, int, int],
        mask: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        count, heads, depth = shape
        q, k, v = (x.index_select(0, take).view(count * heads, depth, x.shape[1]) for x in (query, key, value))
        scores = torch.bmm(q, k.transpose(1, 2)).view(count, heads, depth, depth)
        weights = torch.softmax(scores.mul_(scaling).add_(mask), dim=-1).flatten(0, 1)
        ctx.save_for_backward(q, k, v, weights, take, back)
        ctx.scaling = scaling
        return _taken(torch.bmm(weights, v).view(-1, v.shape[2]), back, len(query))

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
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What `ATTENTION` names, as transformers calls it.

    Raises:
        ValueError: The model wants something of its attention that this does not do.
    """
    wanted = [name for name in ("s_aux", "position_bias") if others.get(name) is not None]
    if wanted:
        raise ValueError(f"unpadded attention does not do {', '.join(wanted)}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if torch.compiler.is_compiling() and not dropout:
        shape = (*(query.shape[axis] for axis in (0, 2, 1)), value.shape[3])
        options = (scaling, float(sliding_window or 0), softcap or 0.0)
        return call(attention_mask.number, None, [query, key, value], shape, options), None
    found = attention_mask.attend(
        query, key, value, scaling=scaling, dropout=dropout, window=sliding_window, softcap=softcap
    )
    return found, None


AttentionInterface.register(ATTENTION, _attention)
