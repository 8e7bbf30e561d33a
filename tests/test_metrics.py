"""Metrics, against closed forms and against definitions computed the long way in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from declora.data.presets import PRESETS
from declora.errors import ConfigError
from declora.metrics import METRICS, accuracy, choose_metric, confusion_matrix, f1, matthews


@st.composite
def predictions(draw, least=2, most=5):
    classes, count = draw(st.integers(least, most)), draw(st.integers(1, 40))
    vector = st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)
    return np.array(draw(vector)), np.array(draw(vector)), classes


def counts_of(predicted, labels, classes):
    return confusion_matrix(np.asarray(predicted), np.asarray(labels), classes)


def one_class_f1(predicted, labels, which):
    """The harmonic mean of precision and recall; 0 where either is undefined or both are 0."""
    hits = np.sum((predicted == which) & (labels == which))
    if hits == 0:
        return 0.0
    precision, recall = hits / np.sum(predicted == which), hits / np.sum(labels == which)
    return 2 * precision * recall / (precision + recall)


def test_the_confusion_matrix_counts_true_classes_by_row():
    assert counts_of([0, 1, 1, 2], [0, 0, 1, 1], 3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


@given(predictions())
def test_accuracy_is_the_share_of_hits(case):
    predicted, labels, _ = case
    assert accuracy(counts_of(*case)) == pytest.approx(np.mean(predicted == labels), abs=1e-12)


@given(predictions())
def test_f1_is_that_of_class_one_or_the_mean_over_the_classes_that_occur(case):
    predicted, labels, classes = case
    occurring = [c for c in range(classes) if c in predicted or c in labels]
    expected = np.mean([one_class_f1(predicted, labels, c) for c in ([1] if classes == 2 else occurring)])
    assert f1(counts_of(*case)) == pytest.approx(expected, abs=1e-12)


@given(predictions(most=2))
def test_matthews_of_two_classes_is_the_pearson_correlation(case):
    predicted, labels, _ = case
    constant = len(set(predicted)) == 1 or len(set(labels)) == 1
    expected = 0.0 if constant else np.corrcoef(predicted, labels)[0, 1]
    assert matthews(counts_of(*case)) == pytest.approx(expected, abs=1e-12)


@given(predictions(least=3))
def test_matthews_of_more_classes_is_the_correlation_of_their_indicators(case):
    """R_K = sum_k cov(p_k, t_k) / sqrt(sum_k var(p_k) sum_k var(t_k)) over the one-hot columns k."""
    predicted, labels, classes = case
    p, t = (np.eye(classes)[x] - np.eye(classes)[x].mean(axis=0) for x in (predicted, labels))
    spread = np.sqrt((p**2).sum() * (t**2).sum())
    expected = (p * t).sum() / spread if spread > 1e-12 else 0.0
    assert matthews(counts_of(*case)) == pytest.approx(expected, abs=1e-9)


def test_closed_forms():
    # TP 6, FN 2, FP 1, TN 3, as rows of true classes 0 and 1.
    counts = np.array([[3, 1], [2, 6]])
    assert accuracy(counts) == 9 / 12
    assert f1(counts) == pytest.approx(12 / 15)
    assert matthews(counts) == pytest.approx((6 * 3 - 1 * 2) / np.sqrt(7 * 8 * 4 * 5))
    assert matthews(np.diag([5, 7, 2])) == pytest.approx(1.0)
    assert matthews(np.array([[0, 5], [5, 0]])) == pytest.approx(-1.0)
    # The counts of a large split do not overflow: a perfect score stays one.
    assert matthews(np.diag([10**9, 10**9])) == pytest.approx(1.0)


MISSING = {
    # rows are true classes, columns predicted ones: counts, accuracy, F1, Matthews
    "class 1 of two occurs nowhere": ([[5, 0], [0, 0]], 1.0, 0.0, 0.0),
    "class 0 of two occurs nowhere": ([[0, 0], [0, 5]], 1.0, 1.0, 0.0),
    "class 1 of two has no samples and is predicted": ([[3, 2], [0, 0]], 0.6, 0.0, 0.0),
    "class 0 of two has no samples and is predicted": ([[0, 0], [2, 3]], 0.6, 6 / 8, 0.0),
    "class 2 of three occurs nowhere": ([[3, 1, 0], [1, 5, 0], [0, 0, 0]], 0.8, (6 / 8 + 10 / 12) / 2, 14 / 24),
    "class 2 of three has no samples and is predicted": (
        [[3, 0, 1], [0, 6, 0], [0, 0, 0]],
        0.9,
        (6 / 7 + 1 + 0) / 3,
        None,
    ),
    "only class 1 of three has samples": ([[0, 0, 0], [1, 2, 1], [0, 0, 0]], 0.5, (0 + 4 / 6 + 0) / 3, 0.0),
    "nothing was evaluated": ([[0, 0], [0, 0]], 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", MISSING)
def test_metrics_are_defined_where_a_class_is_missing_from_the_evaluation(name):
    """As scikit-learn has them with zero_division=0: F1 of class 1 (two classes), else the mean over those that occur.

    Matthews of three classes, the last of which is predicted once but has no samples: with c = 9 right of s = 10,
    p = (3, 6, 1) and t = (4, 6, 0), (c s - p t) / sqrt((s^2 - p p)(s^2 - t t)) = 42 / sqrt(54 x 48).
    """
    counts, *expected = MISSING[name]
    counts = np.array(counts)
    expected = [42 / np.sqrt(54 * 48) if value is None else value for value in expected]
    assert [accuracy(counts), f1(counts), matthews(counts)] == pytest.approx(expected, abs=1e-12)


def test_all_of_the_larger_class_has_no_correlation_but_a_high_f1():
    """The majority baselines: no correlation; on MRPC's dev split (279 of 408) 68.4 % accuracy and 81.2 % F1."""
    mrpc = np.array([[0, 129], [0, 279]])
    assert (round(accuracy(mrpc), 3), round(f1(mrpc), 3), matthews(mrpc)) == (0.684, 0.812, 0.0)


@pytest.mark.parametrize("name", PRESETS)
def test_the_metric_of_a_preset_exists_and_fits_its_task(name):
    preset = PRESETS[name]
    assert choose_metric(preset.metric, preset.task).name == preset.metric


def test_a_metric_is_chosen_by_task_or_refused_by_name():
    assert choose_metric(None, "classification") is METRICS["accuracy"]
    assert choose_metric(None, "causal-lm") is METRICS["perplexity"]
    with pytest.raises(ConfigError, match=r"metric='f2' is not known\. Did you mean 'f1'"):
        choose_metric("f2", "classification")
    with pytest.raises(ConfigError, match=r"metric='f1' does not fit the data, which is causal-lm\. Use perplexity"):
        choose_metric("f1", "causal-lm")
