"""The statistics of the privacy audit: what right guesses rule out, by counting all ways in which they may be right."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from declora.errors import ConfigError

GUESSES, EPSILON = 9, 1.2
CHANCE = math.exp(EPSILON) / (1 + math.exp(EPSILON))


@pytest.fixture
def audit(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benches"))
    import privacy_audit

    return privacy_audit


def at_least(right):
    """How likely so many of `GUESSES` are right, each with `CHANCE`: the sum over all 2^9 ways."""
    ways = [sum(way) for way in itertools.product((0, 1), repeat=GUESSES)]
    return math.fsum(CHANCE**k * (1 - CHANCE) ** (GUESSES - k) for k in ways if k >= right)


@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_how_likely_right_guesses_are_is_the_count_of_all_ways(audit, delta):
    for right in range(GUESSES + 1):
        gains = [(at_least(right - i) - at_least(right)) / i for i in range(1, GUESSES + 1)]
        expected = min(1.0, at_least(right) + 2 * 20 * delta * max(gains))
        found = audit.p_value(canaries=20, guesses=GUESSES, right=right, epsilon=EPSILON, delta=delta)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_of_answers_that_are_as_private_as_they_seem_a_bound_is_too_high_no_more_often_than_said(audit, epsilon):
    """Randomized response: each guess is right with the chance that epsilon allows. Exact, over all counts."""
    count, chance = 60, math.exp(epsilon) / (1 + math.exp(epsilon))
    wrong = sum(
        binom.pmf(right, count, chance)
        for right in range(count + 1)
        if audit.least_epsilon(canaries=count, guesses=count, right=right, delta=0.0, confidence=0.9) > epsilon
    )
    assert 0 < wrong <= 0.1


def test_guesses_that_are_all_right_have_the_bound_of_the_closed_form_and_a_coin_has_none(audit):
    """All r are right with a chance of (e^epsilon / (1 + e^epsilon))^r, which is 1 - confidence at the bound."""
    found = audit.least_epsilon(canaries=80, guesses=50, right=50, delta=0.0, confidence=0.95)
    assert found == pytest.approx(-math.log(0.05 ** (-1 / 50) - 1), abs=2e-4)
    assert audit.least_epsilon(canaries=80, guesses=50, right=25, delta=0.0, confidence=0.95) == 0
    assert audit.least_epsilon(canaries=80, guesses=50, right=50, delta=1e-3, confidence=0.95) < found


def test_the_highest_scores_are_guessed_to_be_there_and_the_lowest_not(audit):
    scores, inside = np.arange(200.0), np.arange(200) >= 100
    each = {"canaries": 200, "delta": 1e-5, "confidence": 1 - 0.05 / len(audit.GUESSED)}
    bound, guesses, right = audit.best_bound(scores, inside, delta=1e-5, confidence=0.95)
    assert (guesses, right) == (200, 200)
    assert bound == audit.least_epsilon(guesses=200, right=200, **each)
    assert audit.best_bound(-scores, inside, delta=1e-5, confidence=0.95)[0] == 0
    # The extremes alone are told apart: guessing the others, too, would rule out less.
    inside[20:180] = np.arange(160) % 2
    assert audit.best_bound(scores, inside, delta=1e-5, confidence=0.95)[1:] == (20, 20)


def test_fewer_than_two_canaries_are_refused(audit):
    for count in (0, 1):
        with pytest.raises(ConfigError, match=f"canaries={count} in all"):
            audit.best_bound(np.zeros(count), np.ones(count, dtype=bool), delta=0.0, confidence=0.95)
