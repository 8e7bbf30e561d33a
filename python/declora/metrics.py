"""Scores models by metrics computed from counts, and names a metric's columns in a history."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from declora.errors import ConfigError, unknown_name

__all__ = ["METRICS", "Metric", "accuracy", "choose_metric", "confusion_matrix", "f1", "matthews"]

Counts = NDArray[np.int64]
"""Confusion matrix, int64 `[classes, classes]`: row = true class, column = predicted class."""


@dataclass(frozen=True)
class Metric:
    """Describes one measure of how good a model is."""

    name: str
    """As in settings and columns."""
    label: str
    """In words."""
    task: str
    """`"classification"` or `"causal-lm"`."""
    higher_is_better: bool = True
    percent: bool = True
    """Whether it is a share, read in percent."""

    @property
    def title(self) -> str:
        """Returns the label as a sentence begins."""
        return self.label[0].upper() + self.label[1:]

    @property
    def average(self) -> str:
        """Returns the column of the averaged model."""
        return f"average_{self.name}"

    def clients(self, statistic: str) -> str:
        """Returns the column of a statistic (`mean`, `min`, `max`) over the clients' own models."""
        return f"clients_{self.name}_{statistic}"

    @property
    def worst(self) -> str:
        """Returns the column of the worst client."""
        return self.clients("min" if self.higher_is_better else "max")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", "classification"),
        Metric("f1", "F1", "classification"),
        Metric("matthews", "Matthews correlation", "classification", percent=False),
        Metric("perplexity", "perplexity", "causal-lm", higher_is_better=False, percent=False),
        Metric("exact_match", "exact match", "causal-lm"),
    )
}
"""By name; the first of a task is its default."""


def choose_metric(name: str | None, task: str) -> Metric:
    """Returns the metric of that name, or the default of the task.

    Raises:
        ConfigError: The name is unknown, or is a metric of another task.
    """
    fitting = {known: metric for known, metric in METRICS.items() if metric.task == task}
    if name is None:
        return next(iter(fitting.values()))
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    if name not in fitting:
        raise ConfigError(f"metric={name!r} does not fit the data, which is {task}. Use {' or '.join(fitting)}.")
    return METRICS[name]


def confusion_matrix(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Counts:
    """Returns how often each true class (row) was predicted as each class (column)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(counts: Counts) -> float:
    """Returns the share of correct predictions."""
    return float(np.trace(counts) / max(1, counts.sum()))


def f1(counts: Counts) -> float:
    """Returns F1, 2 TP / (2 TP + FP + FN): of class 1 where there are two classes, else the mean over classes.

    The mean (macro F1) is over the classes that occur among labels or predictions; without a class 1 among either of
    two, F1 is 0.
    """
    sizes = counts.sum(axis=0) + counts.sum(axis=1)  # 2 TP + FP + FN
    scores = 2.0 * np.diag(counts) / np.maximum(sizes, 1)
    return float(scores[1] if len(counts) == 2 else scores[sizes > 0].mean())


def matthews(counts: Counts) -> float:
    """Returns the Matthews correlation of labels and predictions; 0 where either is constant.

    For more than two classes it is R_K (Gorodkin 2004, Comput. Biol. Chem. 28(5-6), eq. 8), for two the usual
    (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)).
    """
    true, predicted = counts.sum(axis=1).astype(np.float64), counts.sum(axis=0).astype(np.float64)
    total = true.sum()
    covariance = np.trace(counts) * total - true @ predicted
    spread = np.sqrt(total**2 - true @ true) * np.sqrt(total**2 - predicted @ predicted)
    return float(covariance / spread) if spread > 0 else 0.0
