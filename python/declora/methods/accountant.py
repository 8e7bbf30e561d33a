"""How much privacy noisy steps on sampled data spend, by Google's library dp-accounting.

At each step, a client's samples are drawn by Poisson sampling with a chance of `rate`, and Gaussian noise of `sigma`
times the largest contribution of one sample is added to their sum. Two data sets are neighbours where one has a sample
more. Both accountants give an epsilon that holds: privacy loss distributions (`pld`; Doroshenko et al. 2022,
arXiv 2207.04380) the least but for their grid, Rényi divergences (`rdp`; Mironov, Talwar and Zhang 2019,
arXiv 1908.10530) up to 1.7 times that where epsilon is small, in less time and at any delta.
"""

import functools
import importlib.util
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from declora import process
from declora.errors import ConfigError

__all__ = ["ACCOUNTANTS", "check_installed", "check_resolved", "epsilon_of", "foremost", "least_sigma"]

# Any order gives a bound, of which the least is taken. These are a part of dp-accounting's own, without those that take
# longest; where epsilon was 0.1 to 30, theirs was the same bound within 3 %.
_ORDERS = (
    *(1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0),
    *(7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0, 48.0, 64.0, 96.0, 128.0, 256.0, 512.0),
)
# Any grid gives a bound, too. With a sixth of a loss's standard deviation it was at most 0.6 % above the closed form; a
# grid of more points than this would take seconds, which a rate below 1e-3 with little noise alone would need.
_GRID, _WIDEST, _MOST_POINTS = 1 / 6, 0.02, 20_000
_ROUNDING = 1e-15
"""What the Fourier transforms of a step may take from delta by rounding; ten times what was found in 10,000 steps."""
_MOST_SIGMA = 1024.0
_LEAST_SIGMA = 1 / 64
_CLOSE = 1e-3
"""How far above the least noise that will do the one found may be, relatively."""


def check_installed() -> None:
    """Checks that the library is there.

    Raises:
        ConfigError: It is not.
    """
    if importlib.util.find_spec("dp_accounting") is None:
        raise ConfigError(
            "method='dp' accounts for privacy by dp-accounting, which is not installed. Run `pip install "
            "dp-accounting` (or declora's extra: `pip install '.[dp]'`)."
        )


def check_resolved(*, steps: int, delta: float, accountant: str) -> None:
    """Checks that so small a `delta` is not lost in the rounding of so many `steps`.

    Raises:
        ConfigError: It is.
    """
    if accountant == "pld" and delta < (least := 10 * steps * _ROUNDING):
        raise ConfigError(
            f"method='dp': delta={delta:g} is lost in what accountant=pld rounds in {steps:,} steps. Set delta to at "
            f"least {least:.2g}, or take accountant=rdp."
        )


@functools.lru_cache(maxsize=4096)
def epsilon_of(*, rate: float, sigma: float, steps: int, delta: float, accountant: str = "pld") -> float:
    """Returns the epsilon that steps spend at `delta`; infinity where there is no noise.

    Args:
        rate: Chance of a sample at each step, 0 < rate <= 1.
        sigma: Standard deviation of the noise, by the largest contribution of one sample.
        steps: How many.
        delta: 0 < delta < 1.
        accountant: One of `ACCOUNTANTS`.
    """
    if not steps:
        return 0.0
    if not sigma:
        return math.inf
    return float(ACCOUNTANTS[accountant](rate, sigma, steps, delta))


def foremost(accounts: Iterable[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Returns those (rate, sigma, steps), each once, than which no other spends more for sure.

    One does that has at least the rate and the steps, and at most the noise.
    """
    distinct = sorted(set(accounts))
    spending = np.array(distinct) * (1.0, -1.0, 1.0)
    ahead = (spending[None] >= spending[:, None]).all(axis=2).sum(axis=1)  # itself among them
    return [account for account, count in zip(distinct, ahead.tolist(), strict=True) if count == 1]


@functools.cache
def least_sigma(*, rate: float, steps: int, epsilon: float, delta: float, accountant: str = "pld") -> float | None:
    """Returns the least sigma, but for a thousandth, of which steps spend at most `epsilon`; None where none does.

    The arguments are those of `epsilon_of`.
    """
    from scipy.optimize import brentq

    def excess(log_sigma: float) -> float:
        spent = epsilon_of(rate=rate, sigma=math.exp(log_sigma), steps=steps, delta=delta, accountant=accountant)
        return math.log(min(max(spent, 1e-9), 1e9) / epsilon)

    octave = math.log(2)
    high = 0.0
    while excess(high) > 0:
        if high >= math.log(_MOST_SIGMA):
            return None
        high += octave
    while excess(high - octave) <= 0:
        high -= octave
        if high <= math.log(_LEAST_SIGMA):
            return math.exp(high)
    found = float(brentq(excess, high - octave, high, xtol=_CLOSE / 2))
    while excess(found) > 0:
        found += _CLOSE / 2
    return math.exp(found)


def _by_losses(rate: float, sigma: float, steps: int, delta: float) -> float:
    spared = delta - steps * _ROUNDING
    return _losses(rate, sigma).self_compose(steps).get_epsilon_for_delta(spared) if spared > 0 else math.inf


def _by_divergences(rate: float, sigma: float, steps: int, delta: float) -> float:
    from dp_accounting.rdp import compute_epsilon

    return compute_epsilon(np.array(_ORDERS), steps * _divergences(rate, sigma), delta)[0]  # type: ignore[no-any-return]


ACCOUNTANTS: Mapping[str, Callable[[float, float, int, float], float]] = {"pld": _by_losses, "rdp": _by_divergences}
"""What tells the epsilon of (rate, sigma, steps, delta), by name."""


@functools.lru_cache(maxsize=512)
def _losses(rate: float, sigma: float) -> Any:
    """Returns the distribution of a step's privacy loss, to be composed with itself."""
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    deviation = rate * math.sqrt(math.expm1(min(sigma**-2, 50.0)))
    # The loss of noise that is ten standard deviations off the sample's contribution: none larger is on the grid.
    largest = float(np.logaddexp(0.0, math.log(rate) + 0.5 / sigma**2 + 10 / sigma))
    grid = max(min(_WIDEST, _GRID * deviation), largest / _MOST_POINTS)
    return from_gaussian_mechanism(sigma, value_discretization_interval=grid, sampling_prob=rate)


@functools.lru_cache(maxsize=4096)
def _divergences(rate: float, sigma: float) -> NDArray[np.float64]:
    """Returns the Rényi divergence of a step at each of the orders."""
    import dp_accounting as dp

    with _quiet():
        accountant = dp.rdp.RdpAccountant(_ORDERS)
        accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(sigma)))
    found: NDArray[np.float64] = accountant.rdp
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library from warning of orders that it leaves out: others give the bound."""
    log = logging.getLogger("absl")
    with process.alone():
        before = log.level
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(before)
