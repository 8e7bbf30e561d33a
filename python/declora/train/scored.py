"""The head of a causal language model at the tokens whose next one is scored, a chunk of them at a time.

A vocabulary is large: the logits of all tokens of a batch, in float32 and with their gradient, would take more memory
than all else that is computed of it. Half of the tokens may be padding or prompts, of which no next one is learned.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from declora.model.batched import PerClient
from declora.model.forwards import computing_by
from declora.train.tokens import Batch

__all__ = ["PlaceLoss", "ScoredHead", "by_row"]

PlaceLoss: TypeAlias = Callable[[torch.Tensor, slice], torch.Tensor]
"""Of logits float32 `[n, classes]`, and which places of a batch they are of: the losses, `[n]`."""

# Bytes of the logits of a chunk in float32. On a CPU as many as make the product of a chunk no slower than that of all.
_CHUNK_BYTES = {"cpu": 2**26, "cuda": 2**29}
_AHEAD = 1024.0
"""What gradients are multiplied with in float16, of which the smallest numbers are near 6e-8, until the scale is known
that their client's losses are multiplied with."""


class ScoredHead:
    """What a causal LM makes of hidden states, of a few at a time: its head, and what its own code does after it.

    Args:
        model: With batched layers in place, none of them after the last block.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._decoder: nn.Module = model.get_decoder()
        self._around: Callable[..., object]  # makes an output of hidden states, as the decoder does
        self._vocabulary = 1

    @classmethod
    def of(cls, model: PreTrainedModel, batch: Batch) -> "ScoredHead | None":
        """Returns the head of `model`, None where it has no such or is no part of its own.

        Args:
            model: A causal LM, its batched layers bound to one client, while the rows of `batch` are computed.
            batch: On which it is tried: the head must give the logits that the whole model gives.
        """
        if batch.scored is None or not len(batch.scored):
            return None
        try:
            head = cls(model)
        except (AttributeError, ValueError, NotImplementedError):
            return None
        below = set(head._decoder.modules())
        if model in below or any(isinstance(m, PerClient) and m not in below for m in model.modules()):
            return None
        return head if head._holds(batch) else None

    def row_losses(self, batch: Batch) -> torch.Tensor:
        """Returns the summed cross-entropy of each row, float32 `[R]`."""
        assert batch.scored is not None
        targets = batch.labels.flatten().index_select(0, batch.scored + 1)
        found = self.place_losses(batch, lambda logits, part: cross_entropy(logits, targets[part], reduction="none"))
        return by_row(batch, found)

    def place_losses(self, batch: Batch, loss: PlaceLoss) -> torch.Tensor:
        """Returns a loss of the logits of each scored token, float32 `[S]`, that depends on no others."""
        hidden = self._hidden(batch)
        losses: torch.Tensor = _ChunkedLosses.apply(hidden, loss, self._logits, self._chunk(hidden))  # type: ignore[no-untyped-call]
        return losses

    def place_logits(self, batch: Batch) -> Iterator[torch.Tensor]:
        """Returns the logits of the scored tokens, float32 `[n, vocabulary]` of n of them at a time."""
        hidden = self._hidden(batch)
        for states in hidden.split(self._chunk(hidden)):
            yield self._logits(states).float()

    def _chunk(self, hidden: torch.Tensor) -> int:
        """Returns how many tokens' logits are held at a time."""
        return max(1, _CHUNK_BYTES.get(hidden.device.type, 2**26) // (4 * self._vocabulary))

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """Returns the last hidden states of the scored tokens, `[S, H]`."""
        assert batch.scored is not None
        states = self._decoder(**batch.inputs, use_cache=False)
        others = {name: value for name, value in states.items() if name != "last_hidden_state"}
        kind: Callable[..., object] = type(states)
        self._around = functools.partial(kind, **others)
        hidden: torch.Tensor = states.last_hidden_state.flatten(0, 1)
        return hidden.index_select(0, batch.scored)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the logits `[n, vocabulary]` of hidden states `[n, H]`, by the model's own code."""
        ids = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        output = self._around(last_hidden_state=hidden.unsqueeze(0))
        with computing_by([self._decoder], lambda decoder: lambda *args, **kwargs: output):
            logits: torch.Tensor = self._model(input_ids=ids, use_cache=False).logits
        return logits[0]

    def _holds(self, batch: Batch) -> bool:
        """Returns whether the logits are those of the whole model."""
        assert batch.scored is not None
        # Not in inference mode: a 4-bit layer casts its bias in its first pass, for good.
        with torch.no_grad():
            whole: torch.Tensor = self._model(**batch.inputs, use_cache=False).logits
            expected = whole.flatten(0, 1).index_select(0, batch.scored).float()
            try:
                found = self._logits(self._hidden(batch)).float()
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
                return False  # its decoder or its head want something else
        self._vocabulary = found.shape[-1]
        # As in `train.packing.check_packing`: what does not hold is off by thousandths of the scale and more.
        close = (1e-4 if self._model.dtype == torch.float32 else 5e-2) * expected.abs().max()
        return found.shape == expected.shape and bool((found - expected).abs().max() <= close)


def by_row(batch: Batch, losses: torch.Tensor) -> torch.Tensor:
    """Returns the sum over each row, `[R]`, of the losses of its places: those of its scored tokens, or its one."""
    if batch.scored is None:
        return losses
    # Each place is there once, so nothing is added up in an order of chance.
    places = losses.new_zeros(batch.labels.numel()).index_copy(0, batch.scored, losses)
    return places.view(batch.labels.shape).sum(dim=1)


class _ChunkedLosses(torch.autograd.Function):
    """The loss of each of `hidden [S, H]`. Its gradient is taken chunk by chunk on the way there.

    A loss depends on no hidden state but its own, so what comes back to it is a factor of that gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        loss: PlaceLoss,
        logits_of: Callable[[torch.Tensor], torch.Tensor],
        chunk: int,
    ) -> torch.Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        ahead = _AHEAD if hidden.dtype == torch.float16 else 1.0
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            with torch.set_grad_enabled(gradient is not None):
                states = hidden[part].detach().requires_grad_(gradient is not None)
                found = loss(logits_of(states).float(), part)
                if gradient is not None:
                    (gradient[part],) = torch.autograd.grad(found.sum() * ahead, states)
            losses[part] = found.detach()
        ctx.gradient = gradient
        return losses

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        if ctx.gradient.dtype == torch.float16:
            return (ctx.gradient.float() * (grad / _AHEAD).unsqueeze(1)).half(), None, None, None
        return ctx.gradient * grad.unsqueeze(1).to(ctx.gradient.dtype), None, None, None
