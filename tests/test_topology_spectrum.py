"""The second largest modulus, also of many clients: closed forms, solvers and their fallbacks."""

import math
import time

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import ArpackNoConvergence

from declora.topology import Topology
from declora.topology.closed_forms import group_eigenvalues, tridiagonal_eigenvalues
from graphs import DOUBLY, dense, exists, period_product


def test_ten_thousand_clients_stay_sparse_and_match_closed_forms() -> None:
    n = 10_000
    ring = Topology.build("ring", n)
    assert ring.weights(0).nnz == 3 * n
    # Relative to the gap, 1.3e-7: that is what says how many rounds a ring needs. Its own rounding is 2^-53 / 1.3e-7.
    assert ring.spectral_gap == pytest.approx(2 / 3 * (1 - math.cos(2 * math.pi / n)), rel=5e-9)
    path = Topology.build("path", n)
    assert path.spectral_gap == pytest.approx(2 / 3 * (1 - math.cos(math.pi / n)), rel=1e-6)
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


STRUCTURED = ["ring", "complete", "exponential", "torus", "hypercube", "path"]


@pytest.mark.parametrize("n", [4, 12, 16, 30, 64])
@pytest.mark.parametrize("rule", DOUBLY)
@pytest.mark.parametrize("name", STRUCTURED)
def test_closed_forms_are_the_eigenvalues_of_the_dense_solver(
    name: str, rule: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of those of a group, the outer ones of a path, under every rule that the graph has."""
    directed, irregular = name == "exponential", name == "path"
    if not exists(name, n) or (rule == "laplacian" and directed) or (rule == "uniform" and irregular):
        return
    exact = Topology.build(name, n, weights=rule)
    matrix = dense(exact)
    if irregular:
        values = np.linalg.eigvalsh(matrix)
        found = tridiagonal_eigenvalues(exact.weights(0))
        assert found is not None
        np.testing.assert_allclose(found, values[[0, -2, -1]], atol=1e-14)
    else:
        _, found = next(group_eigenvalues(exact.weights(0)))
        assert found[0] == pytest.approx(1.0, abs=1e-14)
        np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(np.abs(np.linalg.eigvals(matrix))), atol=1e-12)
    monkeypatch.setattr("declora.topology.spectrum._DENSE", 0)
    assert Topology.build(name, n, weights=rule).slem == pytest.approx(exact.slem, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from([(12,), (3, 4), (2, 2, 3), (2, 2, 2, 2)]), seed=st.integers(0, 999))
def test_whatever_its_weights_a_matrix_that_is_the_same_from_every_client_is_solved_exactly(
    shape: tuple[int, ...], seed: int
) -> None:
    """Random shifts of the group's elements; only groups that are looked for are found: cyclic, torus and bits."""
    n = int(np.prod(shape))
    draws = np.random.default_rng(seed)
    row = draws.random(n) * (draws.random(n) < 0.5)
    places = np.array(np.unravel_index(np.arange(n), shape))
    steps = (places[:, None, :] - places[:, :, None]) % np.array(shape)[:, None, None]
    matrix = row[np.ravel_multi_index(tuple(steps), shape)]
    found = dict(group_eigenvalues(csr_array(matrix)))
    if shape in found:
        expected = np.linalg.eigvals(matrix)
        np.testing.assert_allclose(np.sort(np.abs(found[shape])), np.sort(np.abs(expected)), atol=1e-10)
    assert (shape in found) == (shape != (2, 2, 3))


def test_a_matrix_that_is_almost_the_same_from_every_client_is_not_taken_for_one() -> None:
    ring = Topology.build("ring", 12).weights(0).toarray()
    ring[0, 1] += 1e-6
    assert list(group_eigenvalues(csr_array(ring))) == []
    assert tridiagonal_eigenvalues(csr_array(ring)) is None


def test_the_factor_of_many_rounds_stands_in_where_no_solver_finds_the_modulus(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **keywords: object) -> None:
        raise ArpackNoConvergence("", np.empty(0), np.empty((0, 0)))

    names = ["random-regular:4", "star", "base:1"]
    given_graph = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)])
    exact = [Topology.build(name, 60).slem for name in names] + [Topology.build(given_graph, 5).slem]
    monkeypatch.setattr("declora.topology.spectrum._DENSE", 0)
    monkeypatch.setattr("declora.topology.spectrum.eigsh", fails)
    monkeypatch.setattr("declora.topology.spectrum.eigs", fails)
    for name, slem in zip(names, exact[:-1], strict=True):
        topology = Topology.build(name, 60)
        if slem == 0:
            assert topology.slem == 0
            continue
        with pytest.warns(UserWarning, match="slem is not exact"):
            assert topology.slem == pytest.approx(slem, rel=1e-3)
    with pytest.warns(UserWarning, match="slem is not exact"):
        # A complex pair: the factor of a single round swings around the modulus.
        assert Topology.build(given_graph, 5).slem == pytest.approx(exact[-1], rel=0.5)


@pytest.mark.parametrize("name", ["ring", "path", "star", "torus", "exponential", "one-peer-exponential"])
def test_twenty_thousand_clients_are_built_and_measured_in_seconds(name: str) -> None:
    start = time.process_time()
    topology = Topology.build(name, 20_000)
    assert 0 < topology.spectral_gap <= 1
    assert topology.messages(0) == len(topology.edges(0))
    # 1 to 4 s on one core; a ring alone took 31 s by iteration.
    assert time.process_time() - start < 20


def test_edges_of_a_dense_graph_cost_no_more_than_its_weights() -> None:
    """Once a period, without an object for each: 1,000,000 edges in less than the second that tuples took."""
    topology = Topology.build("complete", 1000)
    start = time.process_time()
    for t in range(100):
        topology.edges(t)
    assert time.process_time() - start < 0.5
