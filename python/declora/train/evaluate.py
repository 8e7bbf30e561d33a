"""Evaluation of adapters on one split: the loss, and the metrics of the task."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import metrics, seeds
from declora.metrics import Metric
from declora.model.bank import AdapterBank
from declora.model.unpad import Unpadding
from declora.train.loss import batch_losses, forward, row_losses
from declora.train.packing import unpadded_batch
from declora.train.scored import ScoredHead
from declora.train.tokens import Tokens

__all__ = ["Score", "evaluate", "sample_texts"]

# Tokens of one evaluation batch: enough to keep the machine busy, few enough to stay in its caches.
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65536}


@dataclass(frozen=True)
class Score:
    """What one adapter scores on a split."""

    loss: float
    """Mean cross-entropy in nats, per text or (causal LM) per target token."""
    metrics: Mapping[str, float]
    """Every metric of the task, by its name in `declora.metrics`."""
    headline: str
    """The metric that the run is about."""

    @property
    def quality(self) -> float:
        """The headline figure."""
        return self.metrics[self.headline]

    def record(self, prefix: str = "") -> dict[str, float]:
        """Returns loss and metrics under `prefix` + name."""
        return {prefix + name: value for name, value in {"loss": self.loss, **self.metrics}.items()}


def evaluate(
    model: PreTrainedModel,
    bank: AdapterBank,
    row: torch.Tensor,
    tokens: Tokens,
    texts: NDArray[np.int64],
    metric: Metric,
    unpadding: Unpadding | None,
    head: ScoredHead | None = None,
) -> Score:
    """Returns what the adapter `row [D]` scores on `texts` (indices into `tokens`), `metric` being the headline.

    Texts are computed in order of length, so that little of a batch is padding; none with `unpadding` (of `model`), or
    where the model reads padding. With `head` (of `model`), a causal LM scores targets alone.
    """
    device = bank.P.device
    bank.bind(row.to(device).unsqueeze(0))
    order = texts[np.argsort(-tokens.lengths[texts], kind="stable")]
    loss = 0.0
    counts: NDArray[np.int64] | None = None
    with torch.inference_mode(), nullcontext() if unpadding is None else unpadding.installed():
        most = TOKENS_PER_BATCH.get(device.type, 2048)
        for part in _batches(tokens.lengths[order], most, padded=not tokens.reads_padding):
            batch = tokens.batch(order[part], device)
            lengths = tokens.lengths[order[part]]
            unpadded = None if unpadding is None else unpadded_batch(lengths, np.array([len(lengths)]), device)
            with bank.owners.computing(len(lengths), unpadded=unpadded):
                if tokens.labels is None:
                    loss += float(batch_losses(model, batch, head).double().sum())
                    continue
                logits = forward(model, batch)
            loss += float(row_losses(logits, batch.labels).double().sum())
            predicted = logits.argmax(dim=1).cpu().numpy()
            new = metrics.confusion_matrix(predicted, tokens.labels[order[part]], logits.shape[1])
            counts = new if counts is None else counts + new
    mean = loss / max(1, int(tokens.targets(order).sum()))
    return Score(mean, _metrics(mean, counts), metric.name)


def _metrics(loss: float, counts: NDArray[np.int64] | None) -> dict[str, float]:
    if counts is None:
        return {"perplexity": math.exp(min(loss, 700.0))}
    return {
        "accuracy": metrics.accuracy(counts),
        "f1": metrics.f1(counts),
        "matthews": metrics.matthews(counts),
    }


def sample_texts(tokens: Tokens, most: int | None, *, seed: int) -> NDArray[np.int64]:
    """Returns the indices of all texts, or of `most` of them drawn from `seed` (the same for every client)."""
    count = len(tokens)
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(seeds.generator(seed, "evaluation").permutation(count)[:most])


def _batches(lengths: NDArray[np.int64], tokens: int, *, padded: bool) -> list[slice]:
    """Cuts rows sorted by falling length into runs of at most `tokens` padded tokens; `padded` or all of one length."""
    parts, start = [], 0
    while start < len(lengths):
        longest = int(lengths[start])
        alike = len(lengths) if padded else int(np.searchsorted(-lengths, -longest, side="right"))
        stop = min(alike, start + max(1, tokens // longest))
        parts.append(slice(start, stop))
        start = stop
    return parts
