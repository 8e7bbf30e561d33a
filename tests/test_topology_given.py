"""Graphs and matrices of one's own."""

import re
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array

from declora.errors import TopologyError
from declora.topology import Topology, adjacency
from graphs import dense, edges


def path(*nodes: object) -> "nx.Graph[object]":
    return nx.Graph(list(pairwise(nodes)))


@pytest.mark.parametrize(
    ("nodes", "order", "note"),
    [
        ((2, 0, 1), [0, 1, 2], None),
        (("2", "0", "1"), ["0", "1", "2"], None),
        ((np.int64(2), "0", 1.0), ["0", 1.0, 2], None),
        (
            ("10", "9", "8"),
            ["8", "9", "10"],
            r"not numbered 0 to 2; clients are its nodes in rising order: 0 is '8', 1 is '9'",
        ),
        ((3, 1, 2), [1, 2, 3], r"0 is 1, 1 is 2, 2 is 3\."),
        ((5, 2, 9), [2, 5, 9], r"0 is 2, 1 is 5, 2 is 9\."),
        ((-1, 1, 0), [-1, 0, 1], "0 is -1"),
        (
            ("zurich", "bern", "genf"),
            ["zurich", "bern", "genf"],
            r"in the graph's own order: 0 is 'zurich', 1 is 'bern'",
        ),
        (("1", "b", 0), ["1", "b", 0], "in the graph's own order"),
        ((True, False, 2), [True, False, 2], "in the graph's own order"),
        (((0, 1), (0, 0), (1, 0)), [(0, 1), (0, 0), (1, 0)], r"0 is \(0, 1\)"),
    ],
    ids=str,
)
def test_nodes_that_are_or_spell_numbers_rise_by_client_and_others_keep_the_graphs_order(
    nodes: tuple[object, ...], order: list[object], note: str | None
) -> None:
    topology = Topology.build(path(*nodes), 3)
    clients = [order.index(node) for node in nodes]
    assert edges(topology) == sorted((a, b) for pair in pairwise(clients) for a, b in (pair, pair[::-1]))
    if note is None:
        assert (topology.nodes, topology.notes) == (None, ())
    else:
        assert topology.nodes == tuple(order)
        assert len(topology.notes) == 1
        assert re.search(note, topology.notes[0])


def test_an_edge_list_read_from_a_file_joins_the_clients_of_its_numbers(tmp_path: Path) -> None:
    """`networkx.read_edgelist` gives texts in order of appearance: 2, 0, 3, 1 here."""
    file = tmp_path / "graph.edgelist"
    file.write_text("2 0\n0 3\n3 1\n")
    topology = Topology.build(nx.read_edgelist(file), 4)
    assert edges(topology) == [(0, 2), (0, 3), (1, 3), (2, 0), (3, 0), (3, 1)]


def test_two_nodes_of_one_number_are_refused() -> None:
    for nodes in ((0, "0", 1), ("1", "01", "2")):
        with pytest.raises(TopologyError, match="are both number"):
            Topology.build(path(*nodes), 3)


def test_of_many_names_a_few_are_said_and_long_ones_are_cut() -> None:
    topology = Topology.build(path(*(f"{'x' * 10_000}{i}" for i in range(50))), 50)
    assert len(topology.notes[0]) < 600
    assert topology.notes[0].endswith(", ....")


def test_edge_weights_self_loops_and_parallel_edges_of_a_graph_are_ignored() -> None:
    plain, rich = nx.star_graph(3), nx.MultiGraph(nx.star_graph(3))
    rich.add_edges_from([(0, 1), (0, 1), (0, 0), (1, 1), (1, 1), (2, 2)])
    nx.set_edge_attributes(rich, {edge: 7.5 + i for i, edge in enumerate(rich.edges)}, "weight")
    for rule in ("metropolis", "laplacian"):
        np.testing.assert_array_equal(
            dense(Topology.build(rich, 4, weights=rule)), dense(Topology.build(plain, 4, weights=rule))
        )
    assert adjacency(rich).diagonal().tolist() == [0, 0, 0, 0]
    assert "edge weights of the graph are not used" in Topology.build(rich, 4).notes[0]
    nx.set_edge_attributes(rich, 1.0, "weight")
    assert Topology.build(rich, 4).notes == ()


def test_digraph_edges_point_from_sender_to_receiver() -> None:
    topology = Topology.build(nx.DiGraph([(0, 1), (1, 2), (2, 0)]), 3)
    assert edges(topology, 0) == [(0, 1), (1, 2), (2, 0)]
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
    assert edges(topology, 0) == [(0, 1), (1, 2), (2, 0)]
    # A circulant has eigenvalues (1 + exp(2 pi i k / 3)) / 2, of modulus cos(pi / 3).
    assert topology.slem == pytest.approx(0.5, abs=1e-12)
