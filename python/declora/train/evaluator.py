"""What is evaluated in a round: the averaged model on one set of texts, each client's own on another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from declora.metrics import METRICS, Metric
from declora.model.bank import AdapterBank
from declora.train.evaluate import Score, evaluate, of_classes
from declora.train.exact_match import Questions, exact_match
from declora.train.sharing import Sharing
from declora.train.tokens import Tokens

__all__ = ["Evaluated", "Evaluator"]


@dataclass(frozen=True)
class Evaluated:
    """What models are evaluated on, and what needs no training there."""

    texts: int
    """Samples that the averaged model is evaluated on."""
    client_texts: int
    """Samples that each client's own is evaluated on."""
    baselines: Mapping[str, float]
    """The headline metric without a model, by name: of always answering the largest class, and, of accuracy, of chance.
    Nothing where texts are continued."""


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
    texts: NDArray[np.int64]
    """Samples that the averaged model is evaluated on."""
    client_texts: NDArray[np.int64]
    """Samples that each client's own is evaluated on; empty where none is."""
    sharing: Sharing
    """How sequences share the passes of `model`."""
    first: torch.Tensor
    """The adapter that all clients begin with, float32 `[D]`."""

    @property
    def evaluated(self) -> Evaluated:
        """What models are evaluated on."""
        return Evaluated(len(self.texts), len(self.client_texts), self._baselines())

    def _baselines(self) -> dict[str, float]:
        labels, classes = self.tokens.labels, self.model.config.num_labels
        if labels is None or classes is None or not len(self.texts):
            return {}
        sizes = np.bincount(labels[self.texts], minlength=classes)
        answered = np.zeros((classes, classes), dtype=np.int64)
        answered[:, sizes.argmax()] = sizes
        largest = {"largest class": of_classes(answered)[self.metric.name]}
        return {**largest, "chance": 1 / classes} if self.metric.name == "accuracy" else largest

    def untrained(self) -> float:
        """Returns the headline metric of the adapter that all clients begin with."""
        asked = self.metric.name == "exact_match"
        record = (self if asked else replace(self, questions=None)).average(self.first)
        return float(record[self.metric.average])

    def average(self, row: torch.Tensor) -> dict[str, float | str]:
        """Returns what a record says of the averaged model `row [D]`."""
        (score,) = self._scores(row.unsqueeze(0).to(self.bank.P.device), self.texts)
        return {"metric": self.metric.name, **score.record("average_")}

    def clients(self, clients: Sequence[int]) -> dict[int, Score]:
        """Returns the score of each of these clients' own models; nothing where clients are not evaluated."""
        if not len(self.client_texts):
            return {}
        return dict(zip(clients, self._scores(self.bank.rows_of(clients), self.client_texts), strict=True))

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

    def _scores(self, values: torch.Tensor, texts: NDArray[np.int64]) -> list[Score]:
        """Returns what each adapter of `values [C, D]` scores on `texts`, with generated answers where asked for."""
        sharing, questions = self.sharing, self.questions
        scores = evaluate(self.model, self.bank, values, self.tokens, texts, self.metric, sharing)
        if questions is None:
            return scores
        matches = np.concatenate(
            [
                exact_match(self.model, self.bank, part, questions, texts, self.tokenizer)
                for part in ([values] if sharing.together else values.split(1))
            ]
        )
        return [
            replace(score, metrics={**score.metrics, "exact_match": float(match)})
            for score, match in zip(scores, matches, strict=True)
        ]
