"""The forward pass of a batch, and the loss of each of its rows."""

from collections.abc import Iterator

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from declora.train.scored import PlaceLoss, ScoredHead, by_row
from declora.train.tokens import Batch

__all__ = ["batch_losses", "forward", "place_logits", "place_losses", "row_losses"]


def batch_losses(model: PreTrainedModel, batch: Batch, head: ScoredHead | None = None) -> torch.Tensor:
    """Returns the summed cross-entropy of each row of a batch, float32 `[R]`.

    Args:
        model: What computes it.
        batch: Its texts.
        head: Of that model, where it scores targets alone; None: it scores every token.
    """
    return row_losses(forward(model, batch), batch.labels) if head is None else head.row_losses(batch)


def place_losses(model: PreTrainedModel, batch: Batch, head: ScoredHead | None, loss: PlaceLoss) -> torch.Tensor:
    """Returns the summed losses of each row of a batch, float32 `[R]`, of logits where there is something to predict.

    Args:
        model: What computes it.
        batch: Its texts.
        head: As of `batch_losses`.
        loss: Of the logits of some places of the batch: its rows; of a causal LM, the tokens before its targets.
    """
    if head is not None:
        return by_row(batch, head.place_losses(batch, loss))
    (logits,) = place_logits(model, batch, None)
    return by_row(batch, loss(logits, slice(0, len(logits))))


def place_logits(model: PreTrainedModel, batch: Batch, head: ScoredHead | None) -> Iterator[torch.Tensor]:
    """Returns the logits of all places of a batch, float32 `[places, classes]`, some of a causal LM's at a time."""
    if head is not None:
        yield from head.place_logits(batch)
        return
    logits = forward(model, batch)
    yield (logits if batch.scored is None else logits.flatten(0, 1).index_select(0, batch.scored)).float()


def forward(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Returns the logits: `[R, classes]`, or `[R, T, vocabulary]` of a causal LM."""
    # A decoder would otherwise build the key-value cache that only generation needs.
    options = {"use_cache": False} if batch.labels.dim() == 2 else {}
    logits: torch.Tensor = model(**batch.inputs, **options).logits
    return logits


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the summed cross-entropy of each row, float32 `[R]`.

    Args:
        logits: `[R, classes]`, or `[R, T, vocabulary]` for a causal LM.
        labels: `[R]` class indices, or `[R, T]` token ids with -100 where there is no token. A causal LM predicts
            token t + 1 from the tokens up to t.
    """
    if labels.dim() == 1:
        return functional.cross_entropy(logits.float(), labels, reduction="none")
    predicted, targets = logits[:, :-1].flatten(0, 1).float(), labels[:, 1:]
    losses = functional.cross_entropy(predicted, targets.flatten(), reduction="none", ignore_index=-100)
    return losses.view(targets.shape).sum(dim=1)
