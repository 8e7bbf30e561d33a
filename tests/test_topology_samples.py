"""Weights by samples: the mean that gossip keeps is the one in which each client counts by its samples."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from declora.errors import TopologyError
from declora.mixer import ClippedGossip, Linear
from declora.topology import Topology, adjacency, server, weigh
from graphs import dense, edges

GRAPHS = ["ring", "path", "star", "complete", "torus", "erdos-renyi:0.4", "watts-strogatz"]


def built(name, samples, seed=0):
    return Topology.build(name, len(samples), weights="samples", samples=samples, seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(GRAPHS),
    samples=st.lists(st.integers(1, 10**6), min_size=8, max_size=24).filter(lambda n: len(n) % 2 == 0),
    seed=st.integers(0, 99),
)
def test_rows_sum_to_one_and_the_law_of_the_samples_is_kept_in_detailed_balance(name, samples, seed):
    topology, law = built(name, samples, seed), np.array(samples) / sum(samples)
    matrix = dense(topology)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-14)
    np.testing.assert_allclose(law @ matrix, law, atol=1e-15)
    flow = law[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-16)
    assert edges(topology) == edges(Topology.build(name, len(samples), seed=seed))
    values = np.linalg.eigvals(matrix)
    # Far from normal matrices lose half of their digits in this solver.
    assert topology.slem == pytest.approx(np.sort(np.abs(values))[-2], abs=1e-7)
    assert topology.slem < 1


def test_each_weight_is_the_metropolis_one_times_the_ratio_of_samples_where_that_is_below_one():
    samples = np.array([5, 10, 40, 20, 1])
    plain, matrix = dense(Topology.build("star", 5)), dense(built("star", samples))
    for i in range(5):
        for j in range(5):
            if i != j:
                assert matrix[i, j] == pytest.approx(plain[i, j] * min(1, samples[j] / samples[i]), abs=1e-16)


@pytest.mark.parametrize("mixer", [Linear(), ClippedGossip(tau=0.7)], ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_gossip_keeps_the_weighted_mean_and_agrees_on_it(name, mixer):
    samples = np.arange(1, 13) ** 2
    topology, rows = built(name, samples), np.random.default_rng(0).normal(size=(12, 30))
    mean = samples @ rows / samples.sum()
    for _ in range(3):
        mixer.mix(topology.weights(0), rows.copy(), rows, gamma=0.9)
        np.testing.assert_allclose(samples @ rows / samples.sum(), mean, atol=1e-13)
    agreed = np.linalg.matrix_power(dense(topology), 2**20) @ rows
    np.testing.assert_allclose(agreed, np.tile(mean, (12, 1)), atol=1e-9)


@pytest.mark.parametrize("name", ["ring", "complete", "star"])
def test_equal_samples_are_the_metropolis_weights_bit_for_bit(name):
    topology = built(name, [7] * 8)
    np.testing.assert_array_equal(dense(topology), dense(Topology.build(name, 8)))
    assert topology.law is None
    assert topology.notes == ()


def test_a_server_gives_everybody_the_mean_weighted_by_samples():
    samples = [2, 38, 10]
    topology = server(3, samples)
    np.testing.assert_array_equal(dense(topology), np.tile(np.array(samples) / 50, (3, 1)))
    np.testing.assert_array_equal(topology.law, np.array(samples) / 50)
    assert topology.slem == 0
    assert "0.04 to 0.76 of the whole" in topology.notes[0]
    for plain in (server(3), server(3, [5, 5, 5])):
        np.testing.assert_array_equal(dense(plain), dense(Topology.build("complete", 3, weights="uniform")))
        assert plain.law is None


def test_many_clients_have_the_modulus_of_few_ones_solver(monkeypatch):
    """The sparse solvers on a weighted path, ring and random graph, against the dense one."""
    samples = np.random.default_rng(1).integers(1, 50, size=120)
    for name in ("path", "ring", "random-regular:4"):
        exact = built(name, samples).slem
        with monkeypatch.context() as patch:
            patch.setattr("declora.topology.spectrum._DENSE", 0)
            assert built(name, samples).slem == pytest.approx(exact, abs=1e-10)


def test_a_schedule_of_ones_own_is_measured_in_the_norm_of_its_law():
    """Of a reversible matrix twice, the factor of a round is its slem, in the norm weighted by the law."""
    once = built("star", [1, 2, 3, 4, 5, 6])
    twice = Topology("mine", 6, (once.weights(0), once.weights(0)), law=once.law)
    assert twice.slem == pytest.approx(once.slem, abs=1e-12)
    assert not twice.symmetric


@pytest.mark.parametrize(
    ("spec", "samples", "message"),
    [
        ("ring", None, r"weights='samples' needs how many samples each client has"),
        ("ring", [1, 2, 3], r"samples=\[1, 2, 3\] must be a whole number of at least 1 for each of the 4 clients"),
        ("ring", [1, 2, 3, 0], "at least 1"),
        ("ring", [1, 2, 3, 0.5], "whole number"),
        ("exponential", [1, 2, 3, 4], r"weights='samples' needs an undirected graph.*'exponential' is directed"),
        ("base:1", [1, 2, 3, 4], "has no effect on topology='base:1'"),
        (np.full((4, 4), 0.25), [1, 2, 3, 4], "has no effect on topology='matrix'"),
    ],
    ids=str,
)
def test_what_cannot_be_weighted_is_refused(spec, samples, message):
    with pytest.raises(TopologyError, match=message):
        Topology.build(spec, 4, weights="samples", samples=samples)


def test_push_sum_has_no_use_for_samples():
    with pytest.raises(TopologyError, match="weights='samples' has no effect where each client splits"):
        Topology.build("ring", 4, weights="samples", samples=[1, 2, 3, 4], column_stochastic=True)


def test_a_law_that_a_matrix_does_not_keep_is_refused_with_the_client():
    ring = Topology.build("ring", 4).weights(0)
    with pytest.raises(TopologyError, match=r"column 0 sums to .*, not 1; .* \(columns: weighted by the law\)"):
        Topology("mine", 4, (ring,), law=np.array([0.1, 0.2, 0.3, 0.4]))
    for law in (np.array([0.5, 0.5]), np.array([0.5, 0.5, 0.5, -0.5]), np.array([0.5, 0.5, 0.5, 0.5])):
        with pytest.raises(TopologyError, match="law must be 4 numbers above 0 that sum to 1"):
            Topology("mine", 4, (ring,), law=law)


def test_weigh_takes_the_law_itself():
    law = np.array([0.1, 0.2, 0.3, 0.4])
    matrix = weigh(adjacency(nx.cycle_graph(4)), "samples", name="ring", law=law).toarray()
    np.testing.assert_allclose(law @ matrix, law, atol=1e-16)


def test_samples_without_a_rule_that_uses_them_are_refused():
    with pytest.raises(TopologyError, match=r"^samples has no effect with weights='metropolis'. Leave it out, or use"):
        Topology.build("ring", 4, samples=[1, 2, 3, 4])


def test_samples_whose_sum_is_beyond_64_bits_are_weighed_too():
    few, many = ([3, 1, 2, 2], [3 << 61, 1 << 61, 2 << 61, 2 << 61])
    assert built("ring", few).law.tolist() == built("ring", many).law.tolist() == [0.375, 0.125, 0.25, 0.25]
