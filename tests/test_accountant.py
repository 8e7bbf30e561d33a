"""What noisy steps spend: the closed form without sampling, other accountants, and the noise found for a budget."""

import math

import numpy as np
import pytest

from declora.errors import ConfigError
from declora.methods import accountant
from declora.methods.accountant import epsilon_of, least_sigma

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
    found = epsilon_of(rate=1.0, sigma=sigma, steps=steps, delta=DELTA)
    assert found <= classic
    # dp-accounting's own orders are denser, so its bound is no larger.
    assert found >= dp_epsilon(dp_accounting.rdp.RdpAccountant(), 1.0, sigma, steps)


def dp_epsilon(account, rate, sigma, steps):
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
    return account.compose(event, steps).get_epsilon(DELTA)


def test_what_is_spent_grows_with_steps_and_the_rate_and_falls_with_noise():
    def found(rate=0.05, sigma=1.0, steps=100):
        return epsilon_of(rate=rate, sigma=sigma, steps=steps, delta=DELTA)

    assert 0 == found(steps=0) < found(steps=1) < found(steps=50) < found(steps=100)
    assert found(rate=0.01) < found(rate=0.05) < found(rate=0.5) < found(rate=1.0)
    assert found(sigma=4.0) < found(sigma=2.0) < found(sigma=1.0) < found(sigma=0.0) == math.inf


@pytest.mark.parametrize(("rate", "sigma", "steps"), GRID[::3])
def test_the_bound_lies_between_that_of_privacy_loss_distributions_and_twice_that(rate, sigma, steps):
    """PLD accounting is tight (but for its grid), Rényi accounting an upper bound, less than twice that here."""
    tight = dp_epsilon(dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3), rate, sigma, steps)
    found = epsilon_of(rate=rate, sigma=sigma, steps=steps, delta=DELTA)
    assert tight <= found < 2 * tight


def divergence(rate, sigma, order):
    """log E_x[(1 - q + q exp((2 x - 1) / (2 sigma^2)))^a] / (a - 1) for x ~ N(0, sigma^2), by quadrature in float64."""
    x = np.linspace(-40 * sigma, 40 * sigma + 2 * order, 400_001)
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


@pytest.mark.parametrize(("rate", "steps", "epsilon"), [(0.05, 60, 8.0), (0.02, 200, 1.0), (1.0, 20, 3.0)])
def test_the_noise_found_keeps_the_budget_and_a_percent_less_does_not(rate, steps, epsilon):
    sigma = least_sigma(rate=rate, steps=steps, epsilon=epsilon, delta=DELTA)
    assert epsilon_of(rate=rate, sigma=sigma, steps=steps, delta=DELTA) <= epsilon
    assert epsilon_of(rate=rate, sigma=0.99 * sigma, steps=steps, delta=DELTA) > epsilon


def test_a_budget_that_no_noise_keeps_has_none():
    assert least_sigma(rate=1.0, steps=10, epsilon=1e-6, delta=DELTA) is None


def test_the_library_says_nothing_of_orders_that_it_leaves_out(caplog):
    """At so little noise its series for orders near 1 do not converge, of which it would warn."""
    accountant._divergences.cache_clear()
    assert math.isfinite(epsilon_of(rate=0.05, sigma=0.1, steps=3, delta=DELTA))
    assert not caplog.records


def test_where_the_library_is_not_installed_that_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed\. Run `pip install dp-accounting`"):
        accountant.check_installed()
