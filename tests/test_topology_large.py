"""Large graphs: built of arrays as networkx has them, with little memory beside what they are."""

import pickle
import tracemalloc
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from declora.errors import TopologyError
from declora.round_graph import CompleteGraph, RoundGraph
from declora.topology import Topology, adjacency, server
from declora.topology.check import as_matrix, check_connected
from declora.topology.graphs import named_graph
from declora.topology.names import parse_name
from declora.topology.summary import describe
from declora.topology.weights import complete


def grid(clients):
    rows = next(r for r in range(int(clients**0.5), 0, -1) if clients % r == 0)
    graph = nx.grid_2d_graph(rows, clients // rows, periodic=True)
    return nx.relabel_nodes(graph, {(row, column): row * clients // rows + column for row, column in graph})


def cube(clients):
    return nx.from_edgelist((i, i ^ 1 << b) for i in range(clients) for b in range(5) if 1 << b < clients)


def hops(clients):
    far = [1 << j for j in range((clients - 1).bit_length())]
    return nx.DiGraph([(i, (i + hop) % clients) for i in range(clients) for hop in far])


@pytest.mark.parametrize(
    ("name", "sizes", "drawn"),
    [
        ("ring", [2, 3, 7, 40], nx.cycle_graph),
        ("path", [2, 3, 7, 40], nx.path_graph),
        ("star", [2, 3, 7, 40], lambda clients: nx.star_graph(clients - 1)),
        ("torus", [4, 6, 9, 40], grid),
        ("hypercube", [2, 4, 32], cube),
        ("exponential", [2, 3, 7, 40], hops),
    ],
)
def test_graphs_of_arrays_are_those_of_networkx(name, sizes, drawn):
    for clients in sizes:
        received, directed = named_graph(parse_name(name), clients, seed=0)
        graph = drawn(clients)
        assert directed == graph.is_directed()
        np.testing.assert_array_equal(received.toarray(), adjacency(graph).toarray())


@pytest.mark.parametrize("build", [lambda clients: Topology.build("complete", clients), server])
def test_a_complete_graph_has_weights_and_messages_where_they_are_read_and_next_to_nothing_beside(build):
    clients = 1200
    describe(build(3))  # what is imported then is none of it
    tracemalloc.start()
    topology = build(clients)
    assert (topology.slem, topology.messages(0)) == (0.0, clients * (clients - 1))
    assert topology.neighbours(0, 7) == [client for client in range(clients) if client != 7]
    described = describe(topology)
    built = tracemalloc.get_traced_memory()[1]
    edges = topology.edges(0)
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert built < 100 * clients
    assert read < 1.2 * 20 * clients**2
    assert len(edges) == clients * (clients - 1)
    assert np.all(edges[:, 0] * clients + edges[:, 1] == np.delete(np.arange(clients**2), np.s_[:: clients + 1]))
    assert "undirected" in described
    assert "1.4388e+06 a round" in described


@pytest.mark.parametrize(
    "everybody",
    [
        Topology.build("complete", 7),
        Topology.build("complete", 7, weights="laplacian"),
        Topology.build("complete", 1),
        Topology.build("complete", 1, weights="laplacian"),
        server(7, [1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=lambda topology: f"{topology.rule}-{topology.clients}",
)
def test_a_complete_graph_is_what_its_matrix_is(everybody):
    assert isinstance(everybody.round(0), CompleteGraph)
    matrix = everybody.weights(0)
    given = Topology(everybody.name, everybody.clients, (matrix,), law=everybody.law, rule=everybody.rule)
    graph, plain = everybody.round(3), given.round(3)
    assert type(plain) is RoundGraph
    assert matrix.has_canonical_format
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-15)
    for name in ("edges", "degrees", "own", "values"):
        np.testing.assert_array_equal(getattr(graph, name), getattr(plain, name))
    assert (graph.clients, graph.messages) == (plain.clients, plain.messages)
    for client in range(everybody.clients):
        np.testing.assert_array_equal(graph.senders(client), plain.senders(client))
        np.testing.assert_array_equal(graph.receivers(client), plain.receivers(client))
    for audience in (graph.audience, plain.audience):
        np.testing.assert_array_equal(audience.pairs, plain.edges)
        np.testing.assert_array_equal(audience.counts, np.bincount(plain.edges[:, 0], minlength=everybody.clients))
    assert everybody.slem == pytest.approx(given.slem, abs=1e-12)
    assert everybody.symmetric == given.symmetric
    if everybody.symmetric:
        assert everybody.least_eigenvalue == pytest.approx(given.least_eigenvalue, abs=1e-12)
    assert describe(everybody) == describe(given)
    again = replace(everybody, name="mine")
    assert again.round(0) is graph
    assert pickle.loads(pickle.dumps(everybody)).weights(0).toarray().tolist() == matrix.toarray().tolist()


def test_what_its_owner_can_still_change_is_copied_and_what_nobody_can_is_not():
    given = complete(5, "uniform").weights.copy()
    topology = Topology("mine", 5, (given,))
    given.data[:] = 7.0
    assert topology.weights(0).data.tolist() == [0.2] * 25
    kept = topology.weights(0)
    assert as_matrix(kept, name="mine") is kept
    values = np.full(25, 0.2)
    view = values[:]
    view.flags.writeable = False
    borrowed = csr_array((view, kept.indices, kept.indptr), shape=(5, 5))
    taken = Topology("mine", 5, (borrowed,))
    values[:] = 7.0
    assert taken.weights(0).data.tolist() == [0.2] * 25


@pytest.mark.parametrize(("row", "column"), [(0, 299), (298, 299), (257, 3)])
def test_a_full_matrix_that_is_not_symmetric_is_found_wherever_it_is_not(row, column):
    weights = np.full((300, 300), 1 / 300)
    third = 100
    weights[row, column] += 1e-3
    weights[row, third] -= 1e-3
    weights[third, third] += 1e-3
    weights[third, column] -= 1e-3
    with pytest.raises(TopologyError, match="not symmetric"):
        Topology.build(weights, 300)


def test_a_hub_that_is_only_heard_or_only_hears_joins_nobody():
    hub = np.eye(4)
    hub[0] = 0.25
    for matrix in (hub, hub.T):
        with pytest.raises(TopologyError, match="not connected"):
            check_connected([csr_array(matrix)], name="hub")
    check_connected([csr_array(np.maximum(hub, hub.T))], name="hub")
