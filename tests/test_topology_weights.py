"""Mixing matrices of the weight rules, against closed forms."""

import math

import networkx as nx
import numpy as np
import pytest

from declora.topology import TOPOLOGIES, Topology, adjacency, describe, weigh
from graphs import DOUBLY, dense, edges


@pytest.mark.parametrize("n", range(3, 31))
def test_ring_eigenvalues_match_the_closed_form(n: int) -> None:
    expected = np.sort(1 / 3 + 2 / 3 * np.cos(2 * np.pi * np.arange(n) / n))
    ring = Topology.build("ring", n)
    np.testing.assert_allclose(np.linalg.eigvalsh(dense(ring)), expected, atol=1e-12)
    assert ring.slem == pytest.approx(np.sort(np.abs(expected))[-2], abs=1e-12)
    assert ring.spectral_gap == 1 - ring.slem


def test_ring_of_ten_has_a_third_for_itself_and_each_neighbour() -> None:
    ring = Topology.build("ring", 10)
    np.testing.assert_allclose(ring.weights(0).data, 1 / 3, rtol=1e-15)
    assert [ring.neighbours(0, i) for i in (0, 4, 9)] == [[1, 9], [3, 5], [0, 8]]
    assert len(edges(ring)) == ring.messages(0) == 20
    assert round(ring.slem, 3) == 0.873


def test_laplacian_rule_on_a_ring_is_another_matrix_than_metropolis() -> None:
    ring = Topology.build("ring", 10, weights="laplacian")
    assert dense(ring)[0, 1] == pytest.approx(1 / 6, abs=1e-15)
    # L of an even ring has eigenvalues 2 - 2 cos(2 pi k / n) up to 4, so lambda_2 = 1 - (1 - cos(2 pi / n)) / 3.
    assert ring.slem == pytest.approx(1 - (1 - math.cos(math.pi / 5)) / 3, abs=1e-12)
    assert round(ring.slem, 3) == 0.936


@pytest.mark.parametrize(("n", "p"), [(10, 0.5), (10, 0.3), (20, 0.3)])
@pytest.mark.parametrize("seed", range(3))
def test_erdos_renyi_with_the_laplacian_rule_has_smallest_eigenvalue_one_third(n: int, p: float, seed: int) -> None:
    topology = Topology.build(f"erdos-renyi:{p}", n, weights="laplacian", seed=seed)
    matrix = dense(topology)
    assert np.linalg.eigvalsh(matrix)[0] == pytest.approx(1 / 3, abs=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix.min() >= 0
    edges = topology.weights(0).copy()
    edges.setdiag(0)
    edges.eliminate_zeros()
    # 2 / (3 lambda_max) on every edge, and more than 1/3 left at home.
    assert np.ptp(edges.data) == 0
    assert matrix.diagonal().min() > 1 / 3


@pytest.mark.parametrize("name", ["ring", "torus", "star", "complete", "hypercube", "erdos-renyi"])
def test_laplacian_rule_has_smallest_eigenvalue_one_third_on_any_graph(name: str) -> None:
    matrix = dense(Topology.build(name, 16, weights="laplacian"))
    assert np.linalg.eigvalsh(matrix)[0] == pytest.approx(1 / 3, abs=1e-12)


def test_metropolis_weights_of_a_path_of_three_are_known() -> None:
    expected = np.array([[2, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3
    np.testing.assert_allclose(dense(Topology.build("path", 3)), expected, atol=1e-15)


def test_metropolis_weights_match_the_formula_edge_by_edge() -> None:
    graph = nx.barbell_graph(4, 2)
    matrix = dense(Topology.build(graph, 10))
    for i in range(10):
        for j in range(10):
            if i != j:
                expected = 1 / (1 + max(graph.degree[i], graph.degree[j])) if graph.has_edge(i, j) else 0
                assert matrix[i, j] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", ["ring", "torus", "complete", "hypercube", "random-regular", "exponential"])
def test_uniform_and_metropolis_agree_on_regular_graphs(name: str) -> None:
    one, other = (dense(Topology.build(name, 16, weights=rule)) for rule in ("uniform", "metropolis"))
    np.testing.assert_allclose(one, other, atol=1e-15)


@pytest.mark.parametrize("rule", DOUBLY)
def test_closed_form_of_the_complete_graph_matches_the_general_rule(rule: str) -> None:
    by_rule = weigh(adjacency(nx.complete_graph(7)), rule, name="complete").toarray()
    np.testing.assert_allclose(dense(Topology.build("complete", 7, weights=rule)), by_rule, atol=1e-15)


def test_complete_graph_averages_in_one_round() -> None:
    complete = Topology.build("complete", 9)
    assert np.all(dense(complete) == 1 / 9)
    assert complete.slem == 0
    assert complete.spectral_gap == 1


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_one_client_keeps_its_own_value_under_every_name(name: str) -> None:
    alone = Topology.build(name, 1)
    np.testing.assert_array_equal(dense(alone), [[1.0]])
    assert (alone.slem, edges(alone), alone.neighbours(0, 0)) == (0, [], [])
    assert "1 client" in describe(alone)


@pytest.mark.parametrize("name", ["ring", "path", "star", "complete", "exponential", "base"])
def test_two_clients_take_the_mean(name: str) -> None:
    np.testing.assert_array_equal(dense(Topology.build(name, 2)), np.full((2, 2), 0.5))


def test_for_push_sum_each_sender_splits_its_own_evenly() -> None:
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)])
    topology = Topology.build(graph, 3, column_stochastic=True)
    expected = [[1 / 3, 0, 1 / 2], [1 / 3, 1 / 2, 0], [1 / 3, 1 / 2, 1 / 2]]
    np.testing.assert_allclose(dense(topology), expected, atol=1e-15)
    assert topology.column_stochastic
    assert topology.directed
    assert not topology.symmetric
    assert edges(topology, 0) == [(0, 1), (0, 2), (1, 2), (2, 0)]
    # The eigenvalues that are not 1, of x -> P x.
    assert topology.slem == pytest.approx(np.sort(np.abs(np.linalg.eigvals(expected)))[-2])
    matrix = Topology.build(np.array(expected), 3, column_stochastic=True)
    np.testing.assert_array_equal(dense(matrix), expected)
    star = Topology.build("star", 4, column_stochastic=True)
    np.testing.assert_allclose(dense(star)[:, 0], 1 / 4)
    np.testing.assert_allclose(dense(star)[:, 1], [1 / 2, 1 / 2, 0, 0])


@pytest.mark.parametrize("name", ["ring", "complete", "hypercube", "exponential", "one-peer-exponential", "base:1"])
def test_on_regular_graphs_the_even_split_is_the_doubly_stochastic_matrix(name: str) -> None:
    split, both = (Topology.build(name, 8, column_stochastic=flag) for flag in (True, False))
    for t in range(both.period):
        np.testing.assert_allclose(dense(split, t), dense(both, t), atol=1e-15)
