"""Evaluation of adapters on one split: loss, and accuracy and F1 or perplexity."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import seeds
from declora.model.bank import AdapterBank
from declora.train.loss import forward, row_losses
from declora.train.tokens import Tokens

__all__ = ["Score", "evaluate", "sample_texts"]

# Tokens of one evaluation batch: enough to keep the machine busy, few enough to stay in its caches.
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65536}


@dataclass(frozen=True)
class Score:
    """What one adapter scores on a split."""

    loss: float
    """Mean cross-entropy in nats, per text or (causal LM) per target token."""
    accuracy: float | None = None
    f1: float | None = None
    """F1 of class 1 (two classes), macro F1 (more)."""
    perplexity: float | None = None
    exact_match: float | None = None
    """Share of prompts whose generated answer is the right one; measured apart (`exact_match`)."""

    @property
    def quality(self) -> float:
        """The headline figure: accuracy, or perplexity for a causal LM."""
        return self.accuracy if self.accuracy is not None else float(self.perplexity or math.nan)

    def record(self, prefix: str = "") -> dict[str, float]:
        """Returns the figures that were measured, under `prefix` + name."""
        fields = {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "f1": self.f1,
            "perplexity": self.perplexity,
            "exact_match": self.exact_match,
        }
        return {prefix + name: value for name, value in fields.items() if value is not None}


def evaluate(
    model: PreTrainedModel, bank: AdapterBank, row: torch.Tensor, tokens: Tokens, texts: NDArray[np.int64]
) -> Score:
    """Returns what the adapter `row [D]` scores on `texts` (indices into `tokens`).

    Texts are computed in order of length, so that little of a batch is padding.
    """
    device = bank.P.device
    bank.bind(row.to(device).unsqueeze(0))
    order = texts[np.argsort(-tokens.lengths[texts], kind="stable")]
    loss = 0.0
    predicted: list[torch.Tensor] = []
    with torch.inference_mode():
        for part in _batches(tokens.lengths[order], TOKENS_PER_BATCH.get(device.type, 2048)):
            batch = tokens.batch(order[part], device)
            bank.rows.owner, bank.rows.count = None, len(batch.labels)
            logits = forward(model, batch)
            loss += float(row_losses(logits, batch.labels).double().sum())
            if tokens.labels is not None:
                predicted.append(logits.argmax(dim=1).cpu())
    mean = loss / max(1, int(tokens.targets(order).sum()))
    if tokens.labels is None:
        return Score(loss=mean, perplexity=math.exp(min(mean, 700.0)))
    accuracy, f1 = _classification(torch.cat(predicted).numpy(), tokens.labels[order], int(tokens.labels.max()) + 1)
    return Score(loss=mean, accuracy=accuracy, f1=f1)


def sample_texts(tokens: Tokens, most: int | None, *, seed: int) -> NDArray[np.int64]:
    """Returns the indices of all texts, or of `most` of them drawn from `seed` (the same for every client)."""
    count = len(tokens)
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(seeds.generator(seed, "evaluation").permutation(count)[:most])


def _batches(lengths: NDArray[np.int64], tokens: int) -> list[slice]:
    """Cuts rows sorted by falling length into runs of at most `tokens` padded tokens."""
    parts, start = [], 0
    while start < len(lengths):
        stop = min(len(lengths), start + max(1, tokens // int(lengths[start])))
        parts.append(slice(start, stop))
        start = stop
    return parts


def _classification(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> tuple[float, float]:
    """Returns accuracy and F1 (of class 1 for two classes, else the mean over classes)."""
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    sizes = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    f1 = 2.0 * hits / np.maximum(sizes[: len(hits)], 1)
    return float((predicted == labels).mean()), float(f1[1] if classes == 2 else f1.mean())
