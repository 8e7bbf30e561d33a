"""Matrices of float32 and float16: sums that are 1 but for their rounding are made 1, and it is said."""

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from declora.errors import TopologyError
from declora.topology import Topology
from graphs import dense


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rule", ["metropolis", "laplacian"])
@pytest.mark.parametrize(("name", "n"), [("ring", 10), ("ring", 700), ("star", 50), ("erdos-renyi:0.2", 120)])
def test_a_coarse_matrix_is_taken_with_sums_of_one_and_weights_within_its_rounding(name, n, rule, dtype):
    exact = Topology.build(name, n, weights=rule).weights(0)
    coarse = exact.toarray().astype(dtype)
    assert abs(coarse.astype(np.float64).sum(axis=1) - 1).max() > 1e-9
    topology = Topology.build(coarse, n)
    matrix = dense(topology)
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=2e-12)
    np.testing.assert_array_equal(matrix, matrix.T)
    # Two roundings of the type: that of the number, and what the sums are made 1 by.
    np.testing.assert_allclose(matrix, exact.toarray(), rtol=4 * np.finfo(dtype).eps)
    assert ((matrix > 0) == (coarse > 0)).all()
    (note,) = topology.notes
    assert note.startswith(f"The {np.dtype(dtype)} weights of topology='matrix' were off by up to ")


def test_sparse_matrices_schedules_and_zero_self_weights_are_scaled_too():
    ring = csr_array(Topology.build("ring", 9).weights(0).astype(np.float32))
    assert Topology.build(ring, 9).notes
    schedule = Topology("mine", 9, (ring, ring))
    assert len(schedule.notes) == 2
    assert "'mine, matrix 1'" in schedule.notes[1]
    nobody_keeps = (np.ones((7, 7), np.float32) - np.eye(7, dtype=np.float32)) / np.float32(6)
    np.testing.assert_allclose(dense(Topology.build(nobody_keeps, 7)), (np.ones((7, 7)) - np.eye(7)) / 6, atol=1e-15)


def test_one_way_matrices_are_scaled_in_rows_and_columns_and_those_of_push_sum_in_columns():
    draws = np.random.default_rng(0).random((9, 9))
    for _ in range(400):
        draws /= draws.sum(axis=1, keepdims=True)
        draws /= draws.sum(axis=0)
    matrix = dense(Topology.build(draws.astype(np.float32), 9, directed=True))
    for axis in (0, 1):
        np.testing.assert_allclose(matrix.sum(axis=axis), 1, atol=2e-12)
    graph = nx.DiGraph([(i, (i + 1) % 7) for i in range(7)] + [(0, i) for i in range(2, 7)])
    split = dense(Topology.build(graph, 7, column_stochastic=True))
    found = dense(Topology.build(split.astype(np.float32), 7, column_stochastic=True))
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-15)
    np.testing.assert_allclose(found, split, rtol=4 * 2.0**-23)


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]], np.float32),
        np.full((3, 3), 1 / 3),
        np.array([[1]]),
    ],
)
def test_a_matrix_whose_sums_are_one_is_used_as_it_is(matrix):
    topology = Topology.build(matrix, len(matrix))
    np.testing.assert_array_equal(dense(topology), matrix)
    assert topology.notes == ()


def test_one_way_weights_that_were_not_said_to_be_are_refused_as_such():
    shift = (np.eye(4) + 2 * np.roll(np.eye(4), 1, axis=0)).astype(np.float32) / np.float32(3)
    with pytest.raises(TopologyError, match="directed=True"):
        Topology.build(shift, 4)
    assert Topology.build(shift, 4, directed=True).notes


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[0.5, 0.5], [0.5, 0.49]], np.float32), "row 1 sums to 0.99"),
        (np.array([[0.5, 0.5], [0.499999, 0.5]]), "row 1 sums to 0.999999"),
        (np.array([[0.6, 0.4], [0.39, 0.61]], np.float32), "sums to 1.000000"),
        (np.array([[1.5, -0.5], [-0.5, 1.5]], np.float32), "is negative"),
        (np.array([[0.5, np.nan], [0.5, 0.5]], np.float32), "not a finite number"),
        (np.ones((3, 3), np.float16) - np.eye(3, dtype=np.float16), "looks like an adjacency matrix"),
    ],
)
def test_what_is_off_by_more_than_rounding_is_refused(matrix, message):
    with pytest.raises(TopologyError, match=message):
        Topology.build(matrix, len(matrix))
