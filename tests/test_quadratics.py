"""Gossip on heterogeneous data, on a ring of 10 (V28): who keeps a bias, who does not, and on which W."""

import numpy as np
import pytest

from declora.topology import Topology
from quadratics import (
    Quadratics,
    constant,
    d2,
    exact_diffusion,
    falling,
    gradient_tracking,
    k_gt,
    last,
    plain,
)

TASK = Quadratics()
RING = Topology.build("ring", 10).weights(0).toarray()
LAZY = (np.eye(10) + RING) / 2
LAPLACIAN = Topology.build("ring", 10, weights="laplacian").weights(0).toarray()


def always(matrix):
    return lambda t: matrix


def of(name):
    topology = Topology.build(name, 10)
    period = [topology.weights(t).toarray() for t in range(topology.period)]
    return lambda t: period[t % len(period)]


@pytest.mark.parametrize("matrix", [RING, LAZY, LAPLACIAN], ids=["ring", "lazy", "laplacian"])
@pytest.mark.parametrize(("local", "rate"), [(1, 0.3), (5, 0.1)])
def test_corrected_methods_reach_the_pooled_optimum_at_a_constant_rate_and_plain_gossip_does_not(matrix, local, rate):
    w, rates = always(matrix), constant(rate, local, 2000)
    assert TASK.error(last(plain(TASK, w, rates))) > 1
    assert TASK.error(last(k_gt(TASK, w, rates))) < 1e-6
    assert TASK.error(last(exact_diffusion(TASK, w, rates))) < 1e-6


def test_corrections_sum_to_zero_and_the_tracker_has_the_mean_of_the_gradients():
    w = always(RING)
    for method in (k_gt, exact_diffusion):
        for _, c in method(TASK, w, constant(0.1, 3, 50)):
            assert np.abs(c.sum(0)).max() < 1e-12
    x = TASK.start
    for after, y in gradient_tracking(TASK, w, constant(0.1, 1, 50)):
        np.testing.assert_allclose(y.mean(0), TASK.gradient(x).mean(0), atol=1e-12)
        x = after


def test_with_one_local_step_k_gt_is_gradient_tracking():
    w, rates = always(RING), constant(0.3, 1, 200)
    for (x, _), (y, _) in zip(k_gt(TASK, w, rates), gradient_tracking(TASK, w, rates), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)


def test_with_one_local_step_exact_diffusion_is_d2():
    w, rates = always(RING), constant(0.3, 1, 200)
    for (x, _), (y, _) in zip(exact_diffusion(TASK, w, rates), d2(TASK, w, rates), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-11)


def test_d2_with_several_local_steps_rests_where_their_mean_is_zero_which_is_not_the_optimum():
    """Step matrices M_i = I - (I - eta H_i)^K: d_i = M_i (x - x_i*), whose sum is zero at the mean of x_i* by M_i."""
    local, rate = 5, 0.05
    step = np.eye(6) - np.linalg.matrix_power(np.eye(6) - rate * TASK.curvature, local)
    own = np.linalg.solve(TASK.curvature, TASK.linear[..., None])
    rest = np.linalg.solve(step.sum(0), (step @ own).sum(0)[:, 0])
    x = last(d2(TASK, always(RING), constant(rate, local, 1500)))
    np.testing.assert_allclose(x, np.tile(rest, (10, 1)), atol=1e-8)
    assert TASK.error(x) > 1e-2


@pytest.mark.parametrize("local", [1, 5])
def test_as_the_rate_falls_corrections_in_units_of_the_gradient_stay_right(local):
    w, rates = always(RING), falling(0.3 / local, local, 200)
    assert TASK.error(last(exact_diffusion(TASK, w, rates))) < 1e-4
    assert TASK.error(last(k_gt(TASK, w, rates))) < 1e-2
    assert TASK.error(last(d2(TASK, w, rates))) > 1e-2
    assert TASK.error(last(plain(TASK, w, rates))) > 1e-1


def test_d2_needs_eigenvalues_above_minus_a_third():
    """A mode of W with eigenvalue l goes on as z^2 = l (2 z - 1) at a small rate: within the circle from there on."""
    for value in np.linspace(-0.99, 0.99, 100):
        roots = np.roots([1, -2 * value, value])
        assert (np.abs(roots).max() < 1) == (value > -1 / 3), value
    assert np.linalg.eigvalsh(RING)[0] == pytest.approx(-1 / 3, abs=1e-15)
    assert np.linalg.eigvalsh(LAPLACIAN)[0] == pytest.approx(1 / 3, abs=1e-15)
    less = 1.1 * RING - 0.1 * np.eye(10)  # own weight .27, eigenvalues down to -.47
    rates = constant(0.1, 1, 1500)
    assert TASK.error(last(d2(TASK, always(less), rates))) == np.inf
    assert TASK.error(last(d2(TASK, always((np.eye(10) + less) / 2), rates))) < 1e-6
    assert TASK.error(last(k_gt(TASK, always(less), rates))) < 1e-6


@pytest.mark.parametrize("graph", ["one-peer-exponential", "base"])
def test_graphs_that_change_break_d2_and_not_tracking(graph):
    rates = constant(0.1, 1, 1500)
    for broken in (d2, exact_diffusion):
        assert TASK.error(last(broken(TASK, of(graph), rates))) == np.inf
    assert TASK.error(last(k_gt(TASK, of(graph), rates))) < 1e-6
