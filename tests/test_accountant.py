"""What noisy steps spend: the closed form without sampling, other accountants, and the noise found for a budget."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr

from declora.errors import ConfigError
from declora.methods import accountant
from declora.methods.accountant import check_resolved, epsilon_of, foremost, least_sigma

dp_accounting = pytest.importorskip("dp_accounting")

DELTA = 1e-5
GRID = [(0.01, 1.0, 100), (0.05, 0.8, 60), (0.2, 2.0, 300), (1.0, 8.0, 40)]


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (2.0, 10), (8.0, 100), (30.0, 1000)])
def test_without_sampling_the_divergences_are_those_of_the_gaussian_mechanism(sigma, steps):
    """RDP(a) = m a / (2 sigma^2), Mironov 2017; its conversion bounds what any order gives."""
    orders = np.array(accountant._ORDERS)
    np.testing.assert_allclose(steps * accountant._divergences(1.0, sigma), steps * orders / (2 * sigma**2), rtol=1e-12)
    rho = steps / (2 * sigma**2)
    classic = min(rho * order + math.log(1 / DELTA) / (order - 1) for order in orders)
    found = epsilon_of(rate=1.0, sigma=sigma, steps=steps, delta=DELTA, accountant="rdp")
    assert found <= classic
    # dp-accounting's own orders are denser, so its bound is no larger.
    assert found >= dp_epsilon(dp_accounting.rdp.RdpAccountant(), 1.0, sigma, steps)


def dp_epsilon(account, rate, sigma, steps):
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
    return account.compose(event, steps).get_epsilon(DELTA)


@pytest.mark.parametrize("name", accountant.ACCOUNTANTS)
def test_what_is_spent_grows_with_steps_and_the_rate_and_falls_with_noise(name):
    def found(rate=0.05, sigma=1.0, steps=100):
        return epsilon_of(rate=rate, sigma=sigma, steps=steps, delta=DELTA, accountant=name)

    assert 0 == found(steps=0) < found(steps=1) < found(steps=50) < found(steps=100)
    assert found(rate=0.01) < found(rate=0.05) < found(rate=0.5) < found(rate=1.0)
    assert found(sigma=4.0) < found(sigma=2.0) < found(sigma=1.0) < found(sigma=0.0) == math.inf


def hockey_stick(rate, sigma, epsilon):
    """max of the two divergences of N(0, sigma^2) and (1 - q) N(0, sigma^2) + q N(1, sigma^2), by their definition."""
    x = np.linspace(-12 * sigma, 1 + 12 * sigma, 20_001)
    one = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    other = (1 - rate) * one + rate * np.exp(-0.5 * ((x - 1) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    divergences = [
        np.maximum(p - math.exp(epsilon) * q, 0).sum() * (x[1] - x[0]) for p, q in ((one, other), (other, one))
    ]
    return max(divergences)


@pytest.mark.parametrize(("rate", "sigma"), [(0.01, 1.0), (0.2, 0.6), (0.5, 3.0)])
def test_of_one_step_losses_give_the_epsilon_of_its_definition(rate, sigma):
    delta = 1e-4
    exact = brentq(lambda epsilon: hockey_stick(rate, sigma, epsilon) - delta, 0, 20, xtol=1e-7)
    assert exact - 1e-6 <= epsilon_of(rate=rate, sigma=sigma, steps=1, delta=delta) <= exact * 1.005


@pytest.mark.parametrize(("sigma", "steps", "delta"), [(1.0, 1, 1e-10), (8.0, 40, 1e-5), (5.0, 10_000, 1e-10)])
def test_without_sampling_losses_give_the_epsilon_of_the_gaussian_mechanism(sigma, steps, delta):
    """delta = Phi(1 / (2 s) - e s) - exp(e) Phi(-1 / (2 s) - e s) with s^2 = sigma^2 / m: Balle and Wang 2018."""
    s = sigma / math.sqrt(steps)

    def excess(epsilon):
        first, second = log_ndtr(0.5 / s - epsilon * s), epsilon + log_ndtr(-0.5 / s - epsilon * s)
        return first + math.log1p(-math.exp(second - first)) - math.log(delta)

    exact = brentq(excess, 1e-3, 1e3)
    assert exact <= epsilon_of(rate=1.0, sigma=sigma, steps=steps, delta=delta) <= exact * 1.005


@pytest.mark.parametrize(("rate", "sigma", "steps"), [*GRID[2:], (0.02, 30.0, 200)])
def test_losses_spend_no_more_than_divergences_and_no_less_than_losses_that_are_rounded_down(rate, sigma, steps):
    found, divergences = (
        epsilon_of(rate=rate, sigma=sigma, steps=steps, delta=DELTA, accountant=name) for name in ("pld", "rdp")
    )
    least = dp_accounting.pld.privacy_loss_distribution.from_gaussian_mechanism(
        sigma, sampling_prob=rate, pessimistic_estimate=False, use_connect_dots=False,
        value_discretization_interval=0.03 * rate / sigma,
    ).self_compose(steps).get_epsilon_for_delta(DELTA)  # fmt: skip
    assert least <= found <= divergences < 2 * found


def test_a_delta_that_is_lost_in_rounding_is_refused_where_it_would_be():
    with pytest.raises(ConfigError, match=r"delta=1e-12 is lost .* in 1,000 steps\. Set delta to at least 1e-11, or"):
        check_resolved(steps=1000, delta=1e-12, accountant="pld")
    check_resolved(steps=1000, delta=1.1e-11, accountant="pld")
    check_resolved(steps=1000, delta=1e-12, accountant="rdp")
    assert epsilon_of(rate=1.0, sigma=9.0, steps=1000, delta=1e-12) == math.inf


def divergence(rate, sigma, order):
    """log E_x[(1 - q + q exp((2 x - 1) / (2 sigma^2)))^a] / (a - 1) for x ~ N(0, sigma^2), by quadrature in float64."""
    x = np.linspace(-40 * sigma, 40 * sigma + 2 * order, 50_001)
    ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * x - 1) / (2 * sigma**2))
    logs = order * ratio - x**2 / (2 * sigma**2)
    return (np.log(np.exp(logs - logs.max()).sum() * (x[1] - x[0]) / (sigma * math.sqrt(2 * math.pi))) + logs.max()) / (
        order - 1
    )


@pytest.mark.parametrize(("rate", "sigma", "steps"), GRID[:3])
def test_the_divergences_are_the_integrals_of_their_definition_or_above_them(rate, sigma, steps):
    """At orders that are no whole numbers dp-accounting adds a series of alternating signs without these: a bound."""
    orders = [order for order in accountant._ORDERS if order <= 32]
    expected = np.array([divergence(rate, sigma, order) for order in orders])
    found = accountant._divergences(rate, sigma)[: len(orders)]
    whole = np.equal(np.mod(orders, 1), 0)
    np.testing.assert_allclose(found[whole], expected[whole], rtol=1e-7)
    assert (found[~whole] >= expected[~whole] * (1 - 1e-7)).all()


@pytest.mark.parametrize(("rate", "sigma", "steps"), GRID)
def test_opacus_gives_the_same_divergences_at_whole_orders_and_none_above(rate, sigma, steps):
    rdp = pytest.importorskip("opacus.accountants.analysis.rdp")
    orders = np.array(accountant._ORDERS)
    theirs = np.array(rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=steps, orders=orders.tolist()))
    found, whole = steps * accountant._divergences(rate, sigma), np.mod(orders, 1) == 0
    np.testing.assert_allclose(found[whole], theirs[whole], rtol=1e-6)
    assert (theirs[~whole] <= found[~whole] * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("rate", "steps", "epsilon", "name"),
    [(0.05, 60, 8.0, "pld"), (0.05, 60, 8.0, "rdp"), (0.02, 200, 0.2, "pld"), (1.0, 20, 3.0, "rdp")],
)
def test_the_noise_found_keeps_the_budget_and_half_a_percent_less_does_not(rate, steps, epsilon, name):
    plan = {"rate": rate, "steps": steps, "delta": DELTA, "accountant": name}
    sigma = least_sigma(epsilon=epsilon, **plan)
    assert epsilon_of(sigma=sigma, **plan) <= epsilon < epsilon_of(sigma=0.995 * sigma, **plan)


def test_for_the_same_epsilon_losses_need_less_noise_than_divergences():
    plan = {"rate": 0.02, "steps": 200, "epsilon": 0.2, "delta": DELTA}
    assert least_sigma(**plan, accountant="pld") < 0.95 * least_sigma(**plan, accountant="rdp")


@pytest.mark.parametrize("name", accountant.ACCOUNTANTS)
def test_a_budget_that_no_noise_keeps_has_none_and_one_without_end_has_the_least(name):
    assert least_sigma(rate=1.0, steps=10, epsilon=1e-6, delta=DELTA, accountant=name) is None
    assert least_sigma(rate=1.0, steps=1, epsilon=1e5, delta=DELTA, accountant=name) == pytest.approx(1 / 64)


def test_the_foremost_accounts_have_the_most_that_is_spent_and_with_one_noise_are_few():
    rng = np.random.default_rng(0)
    accounts = [
        (float(rate), float(sigma), int(steps))
        for rate, sigma, steps in zip(
            rng.choice([0.01, 0.02, 0.1, 1.0], 60), rng.choice([0.8, 2.0], 60), rng.choice([5, 40], 60), strict=True
        )
    ]

    def most(accounts):
        return max(
            epsilon_of(rate=rate, sigma=sigma, steps=steps, delta=1e-5, accountant="rdp")
            for rate, sigma, steps in accounts
        )

    assert most(foremost(accounts)) == most(accounts)
    assert foremost(accounts) == [(1.0, 0.8, 40)]
    apart = [(0.01 * n, 0.5 + 0.01 * n, 10) for n in range(1, 9)]  # the more is drawn, the more noise
    assert foremost([*apart, *apart, (0.01, 3.0, 10)]) == apart


def test_the_library_says_nothing_of_orders_that_it_leaves_out(caplog):
    """At so little noise its series for orders near 1 do not converge, of which it would warn."""
    accountant._divergences.cache_clear()
    epsilon_of.cache_clear()
    assert math.isfinite(epsilon_of(rate=0.05, sigma=0.1, steps=3, delta=DELTA, accountant="rdp"))
    assert not caplog.records


def test_where_the_library_is_not_installed_that_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed\. Run `pip install dp-accounting`"):
        accountant.check_installed()
