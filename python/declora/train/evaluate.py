"""Evaluation of adapters on one split: the loss, and the metrics of the task."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from declora import metrics, seeds
from declora.cuda import to_device
from declora.metrics import Metric
from declora.model.bank import AdapterBank
from declora.train.loss import batch_losses, forward, place_logits, row_losses
from declora.train.packing import unpadded_batch
from declora.train.sharing import Sharing
from declora.train.tokens import Batch, Tokens

__all__ = ["Score", "Tally", "Tallying", "evaluate", "of_classes", "sample_texts", "summaries", "tallies", "total"]

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


@dataclass(frozen=True)
class Tally:
    """What one adapter did on some texts, in sums: those of several parts of a split make that of all."""

    loss: float
    """Cross-entropy in nats."""
    targets: int
    """What it is of: texts, or (causal LM) target tokens."""
    texts: int
    confusion: NDArray[np.int64] | None = None
    """How often a classifier answered what, see `metrics.confusion_matrix`."""
    right: int | None = None
    """Generated answers that are exact matches; None where none were asked for."""

    def score(self, metric: Metric) -> Score:
        """Returns what that is as scores, with `metric` as the headline."""
        mean = self.loss / max(1, self.targets)
        found = _of_text(mean) if self.confusion is None else of_classes(self.confusion)
        asked = {} if self.right is None else {"exact_match": self.right / max(1, self.texts)}
        return Score(mean, {**found, **asked}, metric.name)


Tallying: TypeAlias = Callable[[torch.Tensor], list[Tally]]
"""Returns what an adapter, float32 `[D]`, does on the texts here, part by part."""


def total(tallies: Sequence[Tally]) -> Tally:
    """Returns the tally of one adapter on all texts, of those on some of them each, in this order."""
    first, *others = tallies
    for other in others:
        first = Tally(
            first.loss + other.loss,
            first.targets + other.targets,
            first.texts + other.texts,
            None if first.confusion is None or other.confusion is None else first.confusion + other.confusion,
            None if first.right is None or other.right is None else first.right + other.right,
        )
    return first


def evaluate(
    model: PreTrainedModel,
    bank: AdapterBank,
    values: torch.Tensor,
    tokens: Tokens,
    texts: NDArray[np.int64],
    metric: Metric,
    sharing: Sharing,
) -> list[Score]:
    """Returns what each adapter of `values [C, D]` scores on `texts`; see `tallies`.

    Args:
        model: With batched layers in place.
        bank: Of the run.
        values: float32.
        tokens: Of a split.
        texts: Which of them.
        metric: The headline.
        sharing: How sequences share the passes of `model`.
    """
    return [tally.score(metric) for tally in tallies(model, bank, values, tokens, texts, sharing)]


def tallies(
    model: PreTrainedModel,
    bank: AdapterBank,
    values: torch.Tensor,
    tokens: Tokens,
    texts: NDArray[np.int64],
    sharing: Sharing,
) -> list[Tally]:
    """Returns what each adapter of `values [C, D]` does on `texts` (indices into `tokens`).

    Texts are computed in order of length, so that little of a batch is padding, and by as many adapters at once as fill
    a batch.

    Args:
        model: With batched layers in place.
        bank: Of the run; its layers are left bound to some of `values`.
        values: float32.
        tokens: Of a split.
        texts: Which of them.
        sharing: How sequences share the passes of `model`.
    """
    count = len(values)
    losses = torch.zeros(count, dtype=torch.float64, device=bank.P.device)
    confusions: list[Any] = [0] * count  # of a classifier

    def score(adapters: slice, part: NDArray[np.int64], batch: Batch) -> None:
        found, logits = _scored(model, batch, sharing)
        own = len(found) // len(part)
        losses[adapters] += torch.stack([x.sum() for x in found.double().chunk(own)])
        if logits is None or tokens.labels is None:
            return
        for i, classes in enumerate(logits.argmax(dim=1).view(own, -1).cpu().numpy(), adapters.start):
            confusions[i] = confusions[i] + metrics.confusion_matrix(classes, tokens.labels[part], logits.shape[1])

    _compute(bank, values, tokens, texts, sharing, score)
    targets, classifies = int(tokens.targets(texts).sum()), tokens.labels is not None
    return [
        Tally(loss, targets, len(texts), counts if classifies else None)
        for loss, counts in zip(losses.tolist(), confusions, strict=True)
    ]


def summaries(
    model: PreTrainedModel,
    bank: AdapterBank,
    values: torch.Tensor,
    tokens: Tokens,
    summary: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    sharing: Sharing,
) -> torch.Tensor:
    """Returns what each adapter of `values [C, D]` makes of all texts, in short, float32 `[C, places, width]`.

    A place is a text to classify, or a token of a text to continue whose next one is to be predicted.

    Args:
        model: With batched layers in place.
        bank: Of the run; its layers are left bound to some of `values`.
        values: float32.
        tokens: Of the texts.
        summary: Of the logits of some places, float32 `[n, classes]`, what is kept, float32 `[n, width]`.
        width: Of a place.
        sharing: How sequences share the passes of `model`.
    """
    out = torch.empty(len(values), tokens.places[-1], width, dtype=torch.float32, device=bank.P.device)

    def keep(adapters: slice, part: NDArray[np.int64], batch: Batch) -> None:
        found = torch.cat([summary(logits) for logits in place_logits(model, batch, sharing.head)])
        places = to_device(tokens.places_of(part), out.device)
        out[adapters, places] = found.view(-1, len(places), width)

    _compute(bank, values, tokens, np.arange(len(tokens)), sharing, keep)
    return out


def _compute(
    bank: AdapterBank,
    values: torch.Tensor,
    tokens: Tokens,
    texts: NDArray[np.int64],
    sharing: Sharing,
    take: Callable[[slice, NDArray[np.int64], Batch], None],
) -> None:
    """Has `take` compute `texts` by each adapter of `values [C, D]`, some texts by some adapters at a time.

    It gets which adapters, which texts, and the batch: these texts for the first adapter, then for the next.
    """
    device, count = bank.P.device, len(values)
    order = texts[np.argsort(-tokens.lengths[texts], kind="stable")]
    most = TOKENS_PER_BATCH.get(device.type, 2048)
    with torch.inference_mode(), nullcontext() if sharing.unpadding is None else sharing.unpadding.installed():
        for part in _batches(tokens.lengths[order], most, padded=not tokens.reads_padding):
            batch, lengths = tokens.batch(order[part], device), tokens.lengths[order[part]]
            together = max(1, most // int(len(lengths) * lengths.max())) if sharing.together else 1
            for start in range(0, count, together):
                group = values[start : start + together].to(device)
                with _computing(bank, group, lengths, sharing):
                    take(slice(start, start + len(group)), order[part], batch.times(len(group)))


@contextmanager
def _computing(bank: AdapterBank, values: torch.Tensor, lengths: NDArray[np.int64], sharing: Sharing) -> Iterator[None]:
    """Has passes inside compute the R texts of `lengths` by each adapter of `values [C, D]`, adapter by adapter."""
    count, rows, device = len(values), len(lengths), values.device
    bank.bind(values)
    owner = None if count == 1 else torch.arange(count, device=device).repeat_interleave(rows)
    unpadded = None
    if sharing.unpadding is not None:
        unpadded = unpadded_batch(np.tile(lengths, count), np.full(count, rows), device)
    with bank.owners.computing(count * rows, owner=owner, unpadded=unpadded):
        yield


def _scored(model: PreTrainedModel, batch: Batch, sharing: Sharing) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the loss of each row, `[R]`, and the logits of a classifier."""
    if batch.scored is not None:
        return batch_losses(model, batch, sharing.head), None
    logits = forward(model, batch)
    return row_losses(logits, batch.labels), logits


def _of_text(loss: float) -> dict[str, float]:
    return {"perplexity": math.exp(min(loss, 700.0))}


def of_classes(counts: NDArray[np.int64]) -> dict[str, float]:
    """Returns what a classifier scores by each metric, from how often it answered what, see `confusion_matrix`."""
    return {
        "accuracy": metrics.accuracy(counts),
        "f1": metrics.f1(counts),
        "matthews": metrics.matthews(counts),
    }


def sample_texts(count: int, most: int | None, *, seed: int) -> NDArray[np.int64]:
    """Returns the indices of `count` texts, or of `most` of them drawn from `seed` (the same for every client)."""
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
