"""What is evaluated in a round: the averaged model on some texts, each client's own on the same or on its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from declora.metrics import METRICS, Metric
from declora.model.bank import AdapterBank
from declora.train.evaluate import Score, Tally, of_classes, sample_texts, tallies, total
from declora.train.exact_match import Questions, exact_match
from declora.train.sharing import Sharing
from declora.train.tokens import Tokens

__all__ = ["Evaluated", "Evaluator", "drawn_texts"]


@dataclass(frozen=True)
class Evaluated:
    """What models are evaluated on, and what needs no training there."""

    texts: int
    """Samples that the averaged model is evaluated on."""
    client_texts: tuple[int, ...]
    """Samples that each client's own is evaluated on, by client; one number where it is the same for all."""
    baselines: Mapping[str, float]
    """The headline metric without a model, by name: of always answering the largest class, and, of accuracy, of chance.
    Nothing where texts are continued."""

    def of_client(self, client: int) -> int:
        """Returns how many samples a client's own model is evaluated on."""
        return self.client_texts[client if len(self.client_texts) > 1 else 0]

    @property
    def of_clients(self) -> str:
        """How many these are, in words: `200`, or `12 to 40 of their own`."""
        low, high = min(self.client_texts), max(self.client_texts)
        several = f"{low:,} to {high:,}" if low < high else f"{low:,}"
        return several + " of their own" * (len(self.client_texts) > 1)


def drawn_texts(
    tokens: Tokens, shards: Sequence[NDArray[np.int64]] | None, most: int | None, *, seed: int
) -> tuple[NDArray[np.int64], ...]:
    """Returns the texts to evaluate on, at most so many: the same for all, or those of each client's own.

    Args:
        tokens: Of the evaluation data.
        shards: Which are each client's; None: all are everybody's.
        most: Of all, or of each client's; None: all of them.
        seed: The run's.
    """
    if shards is None:
        return (sample_texts(len(tokens), most, seed=seed),)
    return tuple(shard[sample_texts(len(shard), most, seed=seed)] for shard in shards)


@dataclass(frozen=True)
class Evaluator:
    """Scores adapters on the evaluation data of a run."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    bank: AdapterBank
    tokens: Tokens
    questions: Questions | None
    """What the models are asked for generated answers; None where nothing is generated."""
    metric: Metric
    """The headline."""
    texts: Sequence[NDArray[np.int64]]
    """Samples that the averaged model is evaluated on: the same for all, or of each client here."""
    client_texts: Sequence[NDArray[np.int64]]
    """Samples that clients' own are evaluated on: the same for all, or of each client here; empty where none is."""
    counts: tuple[Sequence[int], Sequence[int]]
    """How many these are, of both, of all clients, wherever they are."""
    own: bool
    """Whether each client is evaluated on samples of its own."""
    sharing: Sharing
    """How sequences share the passes of `model`."""
    first: torch.Tensor
    """The adapter that all clients begin with, float32 `[D]`."""

    @property
    def evaluated(self) -> Evaluated:
        """What models are evaluated on."""
        texts, client_texts = self.counts
        return Evaluated(sum(texts), tuple(client_texts), self._baselines())

    @property
    def whole(self) -> bool:
        """Whether all that the averaged model is evaluated on is here."""
        return len(self.texts) == len(self.counts[0])

    def _baselines(self) -> dict[str, float]:
        labels, classes = self.tokens.labels, self.model.config.num_labels
        if labels is None or classes is None:
            return {}
        if not self.whole:  # of which class most are is not known here
            return {"chance": 1 / classes} if self.metric.name == "accuracy" else {}
        sizes = np.bincount(labels[np.concatenate(self.texts)], minlength=classes)
        answered = np.zeros((classes, classes), dtype=np.int64)
        answered[:, sizes.argmax()] = sizes
        largest = {"largest class": of_classes(answered)[self.metric.name]}
        return {**largest, "chance": 1 / classes} if self.metric.name == "accuracy" else largest

    def untrained(self) -> float:
        """Returns the headline of the adapter that all clients begin with; NaN where not all samples are here."""
        if not self.whole:
            return math.nan
        asked = self.metric.name == "exact_match"
        record = self.record((self if asked else replace(self, questions=None)).average(self.first))
        return float(record[self.metric.average])

    def average(self, row: torch.Tensor) -> list[Tally]:
        """Returns what the averaged model `row [D]` does on all samples, or on those of each client here."""
        values = row.unsqueeze(0).to(self.bank.P.device)
        return [tally for texts in self.texts for tally in self._tallies(values, texts)]

    def record(self, average: Sequence[Tally]) -> dict[str, float | str]:
        """Returns what a record says of the averaged model, from what it did on all samples."""
        return {"metric": self.metric.name, **total(average).score(self.metric).record("average_")}

    def clients(self, rows: Sequence[int]) -> dict[int, Score]:
        """Returns the score of the own model of the client in each of these rows; nothing where none is evaluated."""
        if not any(map(len, self.client_texts)):
            return {}
        if self.own:
            found = [t for row in rows for t in self._tallies(self.bank.rows_of([row]), self.client_texts[row])]
        else:
            found = self._tallies(self.bank.rows_of(rows), self.client_texts[0])
        return {row: tally.score(self.metric) for row, tally in zip(rows, found, strict=True)}

    def spread(self, scores: Mapping[int, Score]) -> dict[str, float]:
        """Returns mean, least and largest of the clients' headline (and of exact match, where it was measured)."""
        record: dict[str, float] = {}
        shown = {self.metric.name, *(["exact_match"] if self.questions else [])} if scores else set()
        for metric in (METRICS[name] for name in sorted(shown)):
            values = np.array([score.metrics[metric.name] for score in scores.values()])
            record |= {
                metric.clients("mean"): float(values.mean()),
                metric.clients("min"): float(values.min()),
                metric.clients("max"): float(values.max()),
            }
        return record

    def _tallies(self, values: torch.Tensor, texts: NDArray[np.int64]) -> list[Tally]:
        """Returns what each adapter of `values [C, D]` does on `texts`, with generated answers where asked for."""
        sharing, questions = self.sharing, self.questions
        found = tallies(self.model, self.bank, values, self.tokens, texts, sharing)
        if questions is None:
            return found
        matches = np.concatenate(
            [
                exact_match(self.model, self.bank, part, questions, texts, self.tokenizer)
                for part in ([values] if sharing.together else values.split(1))
            ]
        )
        return [
            replace(tally, right=round(float(match) * len(texts))) for tally, match in zip(found, matches, strict=True)
        ]
