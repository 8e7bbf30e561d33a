"""The topology room: mixing matrices against closed forms, schedules, checks and their errors."""

import math
import subprocess
import sys
from collections.abc import Iterator

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, eye_array

from declora.errors import ConfigError, TopologyError
from declora.topology import TOPOLOGIES, WEIGHT_RULES, Topology, adjacency, describe, plot, weigh

SYMMETRIC = ["ring", "torus", "path", "star", "complete", "hypercube", "random-regular", "erdos-renyi"]
SYMMETRIC += ["watts-strogatz", "base"]


def dense(topology: Topology, t: int = 0) -> NDArray[np.float64]:
    return topology.weights(t).toarray()


def run_python(code: str, **environment: str) -> str:
    """What `code` prints in a fresh interpreter."""
    environment = {"PYTHONPATH": ":".join(sys.path), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def period_product(topology: Topology) -> NDArray[np.float64]:
    product = np.eye(topology.clients)
    for t in range(topology.period):
        product = dense(topology, t) @ product
    return product


def exists(name: str, clients: int) -> bool:
    """Whether the named topology with its default parameters exists for so many clients."""
    if clients == 1:
        return True
    if name == "torus":
        return any(clients % r == 0 for r in range(2, clients))
    if name == "hypercube":
        return clients & (clients - 1) == 0
    return clients > 4 if name in ("random-regular", "watts-strogatz") else True


# Weights


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
    assert len(ring.edges(0)) == ring.messages(0) == 20
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


@pytest.mark.parametrize("rule", WEIGHT_RULES)
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
    assert (alone.slem, alone.edges(0), alone.neighbours(0, 0)) == (0, [], [])
    assert "1 client" in describe(alone)


@pytest.mark.parametrize("name", ["ring", "path", "star", "complete", "exponential", "base"])
def test_two_clients_take_the_mean(name: str) -> None:
    np.testing.assert_array_equal(dense(Topology.build(name, 2)), np.full((2, 2), 0.5))


# Mixing


@pytest.mark.parametrize("name", [*SYMMETRIC, "exponential", "one-peer-exponential"])
def test_mixing_keeps_the_mean(name: str) -> None:
    topology = Topology.build(name, 16)
    x = np.random.default_rng(1).standard_normal((16, 50))
    mean = x.mean(axis=0)
    for t in range(2 * topology.period):
        x = topology.weights(t) @ x
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SYMMETRIC if name != "base"])
def test_mixing_contracts_disagreement_by_slem_squared(name: str) -> None:
    topology = Topology.build(name, 16)
    x = np.random.default_rng(2).standard_normal((16, 50))

    def disagreement(x: NDArray[np.float64]) -> float:
        return float(np.sum((x - x.mean(axis=0)) ** 2))

    assert disagreement(topology.weights(0) @ x) <= topology.slem**2 * disagreement(x) + 1e-12
    values, vectors = np.linalg.eigh(dense(topology))
    slowest = vectors[:, [np.argsort(np.abs(values))[-2]]]
    after = disagreement(topology.weights(0) @ slowest)
    assert after == pytest.approx(topology.slem**2 * disagreement(slowest), abs=1e-9)


# Schedules


@pytest.mark.parametrize("n", range(2, 34))
def test_one_peer_exponential_is_exact_iff_n_is_a_power_of_two(n: int) -> None:
    topology = Topology.build("one-peer-exponential", n)
    assert topology.period == math.ceil(math.log2(n))
    gap = np.abs(period_product(topology) - 1 / n).max()
    if n & (n - 1) == 0:
        assert gap <= 1e-12
        assert topology.slem == 0
    else:
        assert gap > 1e-3
        assert 0 < topology.slem < 1


def test_one_peer_exponential_sends_to_the_client_two_to_the_t_ahead() -> None:
    topology = Topology.build("one-peer-exponential", 6)
    for t, hop in enumerate([1, 2, 4, 1]):
        assert topology.edges(t) == sorted((i, (i + hop) % 6) for i in range(6))
    assert topology.neighbours(2, 0) == [2]
    assert not topology.symmetric


@pytest.mark.parametrize("k", range(1, 5))
def test_base_graph_is_exact_symmetric_and_of_bounded_degree_for_every_n(k: int) -> None:
    for n in range(2, 41):
        topology = Topology.build(f"base:{k}", n)
        np.testing.assert_allclose(period_product(topology), 1 / n, atol=1e-12)
        assert topology.slem == 0
        for t in range(topology.period):
            matrix = dense(topology, t)
            np.testing.assert_array_equal(matrix, matrix.T)
            np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
            assert max(len(topology.neighbours(t, i)) for i in range(n)) <= k


@pytest.mark.parametrize(("n", "period"), [(3, 3), (5, 5), (10, 7), (20, 9), (25, 9), (16, 4)])
def test_base_graph_of_one_peer_has_the_known_period(n: int, period: int) -> None:
    assert Topology.build("base:1", n).period == period


def test_slem_of_a_schedule_is_the_mean_factor_of_a_period() -> None:
    topology = Topology.build("one-peer-exponential", 6)
    norm = np.linalg.norm(period_product(topology) - 1 / 6, 2)
    assert topology.slem == pytest.approx(norm ** (1 / 3), abs=1e-12)


def test_schedule_of_ones_own_may_be_disconnected_in_a_round_but_not_over_the_period() -> None:
    def pairs(*ends: tuple[int, int]) -> NDArray[np.float64]:
        matrix = np.eye(4)
        for i, j in ends:
            matrix[[i, i, j, j], [i, j, i, j]] = 0.5
        return matrix

    topology = Topology("mine", 4, (csr_array(pairs((0, 1), (2, 3))), csr_array(pairs((0, 2), (1, 3)))))
    assert (topology.period, topology.slem, topology.symmetric) == (2, 0, True)
    assert topology.edges(3) == topology.edges(1) == [(0, 2), (1, 3), (2, 0), (3, 1)]
    with pytest.raises(TopologyError, match=r"topology='mine': not connected, client 0 and client 2 .* 2 comp"):
        Topology("mine", 4, (csr_array(pairs((0, 1))), csr_array(pairs((2, 3)))))
    bad = pairs((2, 3))
    bad[3, 2] = 0
    with pytest.raises(TopologyError, match=r"'mine, matrix 1': row 3 sums to 0.5"):
        Topology("mine", 4, (csr_array(pairs((0, 1))), csr_array(bad)))
    with pytest.raises(TopologyError, match="at least one matrix"):
        Topology("mine", 4, ())


# Properties of every name


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(TOPOLOGIES)),
    n=st.integers(1, 40),
    rule=st.sampled_from(WEIGHT_RULES),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_named_topology_is_doubly_stochastic_and_connected(name: str, n: int, rule: str, seed: int) -> None:
    if not exists(name, n):
        with pytest.raises(TopologyError, match=name):
            Topology.build(name, n, seed=seed)
        return
    irregular = name in ("path", "star", "erdos-renyi", "watts-strogatz", "torus")
    fixed = name in ("base", "one-peer-exponential")
    directed = "exponential" in name
    if fixed or (rule == "uniform" and irregular) or (rule == "laplacian" and directed):
        rule = "metropolis"
    topology = Topology.build(name, n, weights=rule, seed=seed)
    together = nx.DiGraph()
    together.add_nodes_from(range(n))
    for t in range(topology.period):
        matrix = dense(topology, t)
        assert np.isfinite(matrix).all()
        assert matrix.min() >= 0
        np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-12)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
        if not directed:
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
        edges = topology.edges(t)
        assert edges == [(j, i) for j in range(n) for i in range(n) if i != j and matrix[i, j] > 0]
        assert topology.messages(t) == len(edges)
        assert all(topology.neighbours(t, i) == [j for j, to in edges if to == i] for i in range(n))
        together.add_edges_from(edges)
    assert nx.is_strongly_connected(together)
    assert 0 <= topology.slem < 1


@pytest.mark.parametrize("name", ["random-regular:3", "erdos-renyi:0.4", "watts-strogatz:4:0.5"])
def test_random_graph_is_a_function_of_the_seed(name: str) -> None:
    first, again, other = (Topology.build(name, 30, seed=seed).edges(0) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_random_graphs_are_the_same_in_another_process() -> None:
    names = ["random-regular:3", "erdos-renyi:0.4", "watts-strogatz:4:0.5"]
    code = (
        f"from declora.topology import Topology\nfor name in {names}: print(Topology.build(name, 20, seed=3).edges(0))"
    )
    # Another hash seed reorders sets of strings, which no graph may depend on.
    lines = run_python(code, PYTHONHASHSEED="99").splitlines()
    assert lines == [str(Topology.build(name, 20, seed=3).edges(0)) for name in names]


def test_building_leaves_global_generators_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this is the generator that must not move
    Topology.build("erdos-renyi", 20)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("degree", [2, 3, 7, 13, 14, 15])
def test_random_regular_graph_gives_every_client_the_same_degree(degree: int) -> None:
    topology = Topology.build(f"random-regular:{degree}", 16)
    assert {len(topology.neighbours(0, i)) for i in range(16)} == {degree}


@pytest.mark.parametrize(("n", "shape"), [(12, (3, 4)), (16, (4, 4)), (10, (2, 5)), (36, (6, 6))])
def test_torus_is_the_product_of_two_rings_near_a_square(n: int, shape: tuple[int, int]) -> None:
    rows, columns = shape
    wanted = nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, columns, periodic=True))
    assert nx.utils.graphs_equal(Topology.build("torus", n).graph(), Topology.build(wanted, n).graph())
    assert Topology.build("torus", n).neighbours(0, 0) == sorted(wanted.neighbors(0))


def test_hypercube_joins_clients_whose_numbers_differ_in_one_bit() -> None:
    topology = Topology.build("hypercube", 8)
    assert topology.edges(0) == [(i, j) for i in range(8) for j in range(8) if (i ^ j).bit_count() == 1]


def test_star_has_client_zero_in_its_centre() -> None:
    assert Topology.build("star", 6).neighbours(0, 0) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("n", [2, 3, 8, 10, 33])
def test_exponential_graph_sends_powers_of_two_ahead(n: int) -> None:
    topology = Topology.build("exponential", n)
    hops = [2**j for j in range(math.ceil(math.log2(n)))]
    assert topology.edges(0) == sorted((i, (i + hop) % n) for i in range(n) for hop in hops)
    np.testing.assert_allclose(topology.weights(0).data, 1 / (len(hops) + 1), atol=1e-15)


def test_names_without_parameters_take_the_defaults() -> None:
    names = ["random-regular", "erdos-renyi", "watts-strogatz", "watts-strogatz:6", "base"]
    full = ["random-regular:4", "erdos-renyi:0.5", "watts-strogatz:4:0.1", "watts-strogatz:6:0.1", "base:1"]
    assert [Topology.build(name, 12).name for name in names] == full
    for name, same in zip(names, full, strict=True):
        assert Topology.build(name, 12).edges(0) == Topology.build(same, 12).edges(0)


# Graphs and matrices of one's own


def test_graph_with_labels_keeps_its_own_order_and_integers_are_sorted() -> None:
    named = nx.Graph([("zurich", "bern"), ("bern", "genf")])
    assert Topology.build(named, 3).edges(0) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    numbered = nx.Graph([(5, 2), (2, 9)])
    assert Topology.build(numbered, 3).neighbours(0, 0) == [1, 2]


def test_edge_weights_self_loops_and_parallel_edges_of_a_graph_are_ignored() -> None:
    plain = nx.path_graph(3)
    rich = nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 2)])
    nx.set_edge_attributes(rich, 7.5, "weight")
    np.testing.assert_array_equal(dense(Topology.build(rich, 3)), dense(Topology.build(plain, 3)))


def test_digraph_edges_point_from_sender_to_receiver() -> None:
    topology = Topology.build(nx.DiGraph([(0, 1), (1, 2), (2, 0)]), 3)
    assert topology.edges(0) == [(0, 1), (1, 2), (2, 0)]
    assert topology.neighbours(0, 1) == [0]
    assert dense(topology)[1, 0] == 0.5
    assert not topology.symmetric
    assert set(topology.graph().edges) == {(0, 1), (1, 2), (2, 0)}


def test_balanced_irregular_digraph_gets_weights_of_the_largest_degree() -> None:
    # Two directed rings that share client 0: it has two senders and two receivers, the others one.
    topology = Topology.build(nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)]), 5)
    np.testing.assert_allclose(dense(topology)[[1, 0, 0, 1], [0, 2, 0, 1]], [1 / 3, 1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(dense(topology).sum(axis=0), 1, atol=1e-15)


def test_digraph_with_both_directions_everywhere_equals_the_graph() -> None:
    graph = nx.star_graph(4)
    for rule in ("metropolis", "laplacian"):
        one, both = (Topology.build(g, 5, weights=rule) for g in (graph, graph.to_directed()))
        np.testing.assert_array_equal(dense(one), dense(both))
        assert both.symmetric


def test_graph_of_a_topology_builds_the_same_topology() -> None:
    for name in ("ring", "star", "exponential", "watts-strogatz"):
        topology = Topology.build(name, 12)
        np.testing.assert_array_equal(dense(Topology.build(topology.graph(), 12)), dense(topology))
    assert Topology.build("ring", 4).graph().edges[0, 1]["weight"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, csr_array, coo_array])
def test_matrix_is_used_as_it_is(kind: type) -> None:
    matrix = np.array([[0.5, 0.3, 0.2], [0.3, 0.7, 0.0], [0.2, 0.0, 0.8]])
    topology = Topology.build(kind(matrix), 3)
    np.testing.assert_array_equal(dense(topology), matrix)
    assert topology.messages(0) == 4
    assert topology.name == "matrix"


def test_topology_keeps_a_copy_that_nobody_can_change() -> None:
    matrix = np.full((2, 2), 0.5)
    topology = Topology.build(matrix, 2)
    matrix[0, 0] = 9
    assert dense(topology)[0, 0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        topology.weights(0).data[0] = 1
    with pytest.raises(AttributeError):
        topology.clients = 3  # type: ignore[misc]


def test_topology_passes_through_build() -> None:
    ring = Topology.build("ring", 5)
    assert Topology.build(ring, 5) is ring


def test_one_way_matrix_is_taken_when_said_so() -> None:
    shift = (np.eye(3) + np.roll(np.eye(3), 1, axis=0)) / 2
    topology = Topology.build(shift, 3, directed=True)
    assert topology.edges(0) == [(0, 1), (1, 2), (2, 0)]
    # A circulant has eigenvalues (1 + exp(2 pi i k / 3)) / 2, of modulus cos(pi / 3).
    assert topology.slem == pytest.approx(0.5, abs=1e-12)


# Many clients: sparse solvers against closed forms


def test_ten_thousand_clients_stay_sparse_and_match_closed_forms() -> None:
    n = 10_000
    ring = Topology.build("ring", n)
    assert ring.weights(0).nnz == 3 * n
    # Relative to the gap, 1.3e-7: that is what says how many rounds a ring needs.
    assert ring.spectral_gap == pytest.approx(2 / 3 * (1 - math.cos(2 * math.pi / n)), rel=1e-6)
    torus = Topology.build("torus", n)
    assert torus.spectral_gap == pytest.approx(2 / 5 * (1 - math.cos(2 * math.pi / 100)), rel=1e-9)
    assert Topology.build("star", n).slem == pytest.approx(1 - 1 / n, abs=1e-12)
    # Eigenvalue of the frequency n/2: hop 1 flips the sign, the other 13 hops keep it, out of 15 terms.
    assert Topology.build("exponential", n).slem == pytest.approx(13 / 15, abs=1e-12)


@pytest.mark.parametrize("name", ["path", "random-regular:4", "erdos-renyi:0.02", "watts-strogatz", "exponential"])
def test_sparse_and_dense_eigenvalues_agree(name: str) -> None:
    topology = Topology.build(name, 420)
    matrix = dense(topology)
    values = np.linalg.eigvalsh(matrix) if topology.symmetric else np.linalg.eigvals(matrix)
    assert topology.slem == pytest.approx(np.sort(np.abs(values))[-2], abs=1e-10)


@pytest.mark.parametrize("restarts", [1, 30])
@pytest.mark.parametrize("own", [0.01, 1e-9])
def test_sparse_solver_finds_the_end_of_the_spectrum_that_dominates(
    own: float, restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An even ring with self weight s has eigenvalues s + (1 - s) cos(2 pi k / n). The one at k = n/2, 2s - 1, is the
    # second largest modulus for s = 1e-9, and the one at k = 1 for s = 0.01. One restart is too few for the plain
    # solver, so that shift-invert has to find it.
    monkeypatch.setattr("declora.topology.spectrum._RESTARTS", restarts)
    n = 3000
    ring = Topology.build("ring", n).weights(0).copy()
    ring.setdiag(0)
    matrix = csr_array(own * eye_array(n) + (1 - own) * 1.5 * ring)
    values = own + (1 - own) * np.cos(2 * np.pi * np.arange(n) / n)
    expected = np.sort(np.abs(values))[-2]
    assert Topology.build(matrix, n).slem == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "n"), [("ring", 5000), ("random-regular:4", 500)])
def test_laplacian_rule_of_many_clients_has_smallest_eigenvalue_one_third(name: str, n: int) -> None:
    topology = Topology.build(name, n, weights="laplacian")
    weight = topology.weights(0)[0, topology.neighbours(0, 0)[0]]
    laplacian = nx.laplacian_matrix(topology.graph(), weight=None).astype(float)
    # An even ring is bipartite: lambda_max(L) = 4.
    largest = 4.0 if name == "ring" else np.linalg.eigvalsh(laplacian.toarray())[-1]
    assert 1 - weight * largest == pytest.approx(1 / 3, abs=1e-12)


def test_irregular_digraph_of_many_clients_matches_the_dense_solver() -> None:
    # Two directed random circulants joined at client 0 are balanced but not normal.
    n = 421
    graph = nx.DiGraph()
    for nodes in (list(range(211)), [0, *range(211, n)]):
        for hop in (1, 7, 31, 64, 100):
            graph.add_edges_from((nodes[i], nodes[(i + hop) % 211]) for i in range(211))
    topology = Topology.build(graph, n)
    expected = np.sort(np.abs(np.linalg.eigvals(dense(topology))))[-2]
    assert topology.slem == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("name", "exact"), [("base:2", True), ("one-peer-exponential", False)])
def test_schedule_of_many_clients_has_the_norm_of_its_product(name: str, exact: bool) -> None:
    topology = Topology.build(name, 500)
    norm = np.linalg.norm(period_product(topology) - 1 / 500, 2)
    assert (norm < 1e-12) == exact
    assert topology.slem == pytest.approx(0 if exact else norm ** (1 / topology.period), abs=1e-10)


# Errors


SHIFT = np.roll(np.eye(4), 1, axis=0)
UNEVEN = np.array([[0.6, 0.4, 0.0], [0.2, 0.5, 0.3], [0.2, 0.1, 0.7]])


@pytest.mark.parametrize(
    ("spec", "clients", "message"),
    [
        ("ring", 0, r"clients=0 must be at least 1"),
        ("ring", -3, r"clients=-3 must be at least 1"),
        ("ring", 2.0, r"clients=2.0 must be an integer, not float"),
        ("ring", True, r"clients=True must be an integer, not bool"),
        ("rng", 4, r"topology='rng' is not known. Did you mean 'ring'\? Known: base, complete, erdos-renyi"),
        ("zzz", 4, r"topology='zzz' is not known. Known: base"),
        ("ring:3", 4, r"topology='ring:3' has 1 parameters after the name; write it as ring"),
        ("base:1:2", 4, r"'base:1:2' has 2 parameters after the name; write it as base:K"),
        ("base:0", 4, r"'base:0': K='0' must be an integer >= 1; write it as base:K, for example base:1"),
        ("base:x", 4, r"K='x' must be an integer"),
        ("random-regular:2.5", 4, r"D='2.5' must be an integer"),
        ("erdos-renyi:1.5", 4, r"P='1.5' must be a number in 0..1"),
        ("erdos-renyi:nan", 4, r"P='nan' must be a number in 0..1"),
        ("erdos-renyi:0.001", 50, r"'erdos-renyi:0.001': none of 100 .* clients=50 and seed=0 .*raise P .* 0.078"),
        ("torus", 13, r"topology='torus': 13 clients .* 13 is prime; take clients=12 or 14, or topology='ring'"),
        ("hypercube", 12, r"'hypercube' needs a power of two .* not clients=12; take 8 or 16"),
        ("random-regular:5", 5, r"'random-regular:5': .* 5 neighbours among clients=5; lower D to 4"),
        ("random-regular:3", 5, r"clients \* D = 5 \* 3 is odd.*make D or clients even"),
        ("random-regular:1", 6, r"'random-regular:1' joins clients in pairs only; raise D to 2"),
        ("watts-strogatz:3", 8, r"K=3 must be even and below clients=8"),
        ("watts-strogatz:8", 8, r"K=8 must be even and below clients=8"),
        (nx.path_graph(4), 5, r"topology='graph' has 4 nodes, but clients=5.*set clients=4"),
        (nx.empty_graph(3), 3, r"client 0 and client 1 cannot reach .* 3 components of 1, 1, 1 clients"),
        (nx.disjoint_union(nx.path_graph(2), nx.path_graph(5)), 7, r"client 0 and client 2 .* 2 components of 5, 2"),
        (nx.DiGraph([(0, 1), (1, 2)]), 3, r"client 0 and client 1 cannot reach"),
        (nx.DiGraph([(0, 1), (1, 0), (1, 2), (2, 0)]), 3, r"client 0 sends to 1 clients but receives from 2"),
        (np.ones((2, 3)), 2, r"topology='matrix': a mixing matrix is square.*this one is 2 x 3"),
        (np.ones(3), 3, r"square.*this one is 3"),
        ([[1.0], [0.5, 0.5]], 2, r"rows of the matrix differ in length"),
        (np.eye(2) * 1j, 2, r"real numbers; this matrix has dtype complex128"),
        (np.array([["a", "b"], ["c", "d"]]), 2, r"real numbers"),
        (np.full((3, 3), 1 / 3), 4, r"'matrix' is for 3 clients, but clients=4"),
        (np.array([[0.5, 0.5], [0.5, np.nan]]), 2, r"row 1, column 1 is nan, which is not a finite number"),
        (np.array([[0.5, np.inf], [0.5, 0.5]]), 2, r"row 0, column 1 is inf"),
        (np.array([[1.2, -0.2], [-0.2, 1.2]]), 2, r"row 0, column 1 is -0.2, which is negative"),
        (np.array([[0.5, 0.5], [0.5, 0.4]]), 2, r"row 1 sums to 0.9, not 1"),
        (np.array([[0.5, 0.5], [0.9, 0.1]]), 2, r"column 0 sums to 1.4, not 1"),
        (np.ones((3, 3)) - np.eye(3), 3, r"row 0 sums to 2.*adjacency matrix: pass networkx.from_numpy_array"),
        (UNEVEN, 3, r"not symmetric, the weight at row 0, column 1 is 0.4 but at row 1, column 0 it is 0.2.*directed"),
        (np.eye(3), 3, r"not connected, client 0 and client 1"),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), 2, r"every self weight is 0 .* \(W \+ I\) / 2"),
        (42, 3, r"topology=42 of type int is no topology; give a name such as 'ring'"),
        (None, 3, r"topology=None of type NoneType"),
        (Topology.build("ring", 4), 5, r"topology='ring' is for 4 clients, but clients=5; set clients=4"),
    ],
    ids=str,
)
def test_what_gossip_cannot_use_is_refused(spec: object, clients: int, message: str) -> None:
    if spec is UNEVEN:
        assert np.allclose(UNEVEN.sum(axis=0), 1)
    with pytest.raises(TopologyError, match=f"(?s){message}"):
        Topology.build(spec, clients)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "weights", "message"),
    [
        ("ring", "metropolitan", r"weights='metropolitan' is not known. Did you mean 'metropolis'\?"),
        ("path", "uniform", r"weights='uniform' .* topology='path' client 0 has 1 and client 1 has 2; use weights="),
        ("exponential", "laplacian", r"weights='laplacian' needs an undirected graph.*'exponential' is directed"),
        ("base:1", "laplacian", r"weights='laplacian' has no effect on topology='base:1'"),
        ("one-peer-exponential", "uniform", r"has no effect on topology='one-peer-exponential'"),
        (np.full((4, 4), 0.25), "uniform", r"has no effect on topology='matrix'"),
        (Topology.build("ring", 4), "laplacian", r"has no effect on topology='ring'"),
    ],
    ids=str,
)
def test_weight_rule_that_does_not_fit_is_refused(spec: object, weights: str, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        Topology.build(spec, 4, weights=weights)  # type: ignore[arg-type]


def test_one_way_matrix_that_only_shifts_values_is_refused() -> None:
    with pytest.raises(TopologyError, match="never agree"):
        Topology.build(SHIFT, 4, directed=True)


def test_for_push_sum_each_sender_splits_its_own_evenly() -> None:
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)])
    topology = Topology.build(graph, 3, column_stochastic=True)
    expected = [[1 / 3, 0, 1 / 2], [1 / 3, 1 / 2, 0], [1 / 3, 1 / 2, 1 / 2]]
    np.testing.assert_allclose(dense(topology), expected, atol=1e-15)
    assert topology.column_stochastic
    assert topology.directed
    assert not topology.symmetric
    assert topology.edges(0) == [(0, 1), (0, 2), (1, 2), (2, 0)]
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


@pytest.mark.parametrize(
    ("spec", "weights", "message"),
    [
        ("ring", "uniform", "weights='uniform' has no effect where each client splits"),
        (nx.DiGraph([(0, 1), (1, 2)]), "metropolis", "cannot reach each other"),
        (np.array([[0.5, 0.5], [0.4, 0.5]]), "metropolis", "column 0 sums to 0.9, not 1; every column of a column-st"),
        (np.array([[0.5, 1.5], [0.5, -0.5]]), "metropolis", "is negative"),
    ],
)
def test_what_push_sum_cannot_use_is_refused(spec: object, weights: str, message: str) -> None:
    clients = 8 if isinstance(spec, str) else len(spec)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=message):
        Topology.build(spec, clients, weights=weights, column_stochastic=True)  # type: ignore[arg-type]


def test_unknown_client_is_refused() -> None:
    with pytest.raises(TopologyError, match=r"client i=4 is not in topology='ring'; clients are 0..3"):
        Topology.build("ring", 4).neighbours(0, 4)


def test_topology_errors_are_configuration_and_value_errors() -> None:
    with pytest.raises(ConfigError):
        Topology.build("ring", 0)
    with pytest.raises(ValueError, match="clients=0"):
        Topology.build("ring", 0)


# Words and pictures


def test_description_of_a_ring_has_its_numbers_and_the_cost_of_a_round() -> None:
    text = describe(Topology.build("ring", 10), payload_bytes=1_200_000)
    facts = dict(line.strip().split("  ", 1) for line in text.splitlines()[2:11])
    assert {key: value.strip() for key, value in facts.items()} == {
        "links": "undirected",
        "period": "1 round (the same graph in every round)",
        "degree": "2",
        "self weight": "0.333333",
        "slem": "0.872678",
        "spectral gap": "0.127322",
        # ln 10 / -ln 0.872678
        "disagreement": "a tenth after 16.9 rounds",
        "messages": "20 a round",
        "traffic": "24 MB a round, 1.2 MB a message",
    }
    assert "     0  0.333 0.333     .     .     .     .     .     .     . 0.333" in text.splitlines()
    assert "traffic" not in Topology.build("ring", 10).describe()


def test_description_of_a_schedule_lists_its_rounds() -> None:
    lines = describe(Topology.build("base:1", 4)).splitlines()
    assert lines[-2:] == ["     0: 0-1 0.5, 2-3 0.5", "     1: 0-2 0.5, 1-3 0.5"]
    assert any("gone after 2 rounds" in line for line in lines)
    directed = describe(Topology.build("one-peer-exponential", 4)).splitlines()
    assert directed[-2] == "     0: 0>1 0.5, 1>2 0.5, 2>3 0.5, 3>0 0.5"
    # Round 2 of base:1 on 3 clients joins one pair only: messages and bytes are a range and a mean.
    assert "mean over the period" in describe(Topology.build("base:1", 11), payload_bytes=10)


def test_description_of_many_clients_is_a_summary() -> None:
    text = describe(Topology.build("star", 300), payload_bytes=4)
    assert len(text.splitlines()) < 15
    assert "1 to 299" in text
    assert "2.392 kB a round" in text


@pytest.fixture
def figures() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(
    ("name", "n"), [*((name, 16) for name in sorted(TOPOLOGIES)), ("ring", 1), ("erdos-renyi:0.1", 64), ("base", 48)]
)
def test_picture_has_a_dot_for_each_client_and_numbers_where_they_fit(name: str, n: int) -> None:
    topology = Topology.build(name, n)
    ax = topology.plot()
    assert len(ax.collections[-1].get_offsets()) == n
    assert [text.get_text() for text in ax.texts] == ([str(i) for i in range(n)] if n <= 40 else [])
    assert ax.get_title(loc="left") == f"{topology.name}, {n} client{'s' if n > 1 else ''}"
    ax.figure.canvas.draw()


@pytest.mark.usefixtures("figures")
def test_picture_of_a_schedule_names_its_rounds_on_the_axes_given() -> None:
    given_axes = plt.subplots()[1]
    assert plot(Topology.build("one-peer-exponential", 8), given_axes) is given_axes
    assert [text.get_text() for text in given_axes.get_legend().get_texts()] == ["round 0", "round 1", "round 2"]


def test_importing_the_room_does_not_load_matplotlib() -> None:
    code = "import sys, declora.topology; print('matplotlib' in sys.modules)"
    assert run_python(code).strip() == "False"
