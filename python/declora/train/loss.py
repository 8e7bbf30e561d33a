"""The forward pass of a batch, and the loss of each of its rows."""

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from declora.train.tokens import Batch

__all__ = ["forward", "row_losses"]


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
    predicted = logits[:, :-1].float().transpose(1, 2)  # R V T-1
    losses = functional.cross_entropy(predicted, labels[:, 1:], reduction="none", ignore_index=-100)
    return losses.sum(dim=1)
