"""Graph schedules of the user's own: what they may do, and what is said of a mistake."""

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

import declora
from declora import Topology
from declora.errors import TopologyError


def schedule_of(graph, period=1):
    return type("Mine", (declora.GraphSchedule,), {"graph": graph, "period": period})()


def test_a_schedule_is_weighed_round_by_round_and_repeats():
    def graph(self, t, clients, rng):
        return nx.Graph([(i, (i + 1) % clients) for i in range(t, clients, 2)])

    topology = Topology.build(schedule_of(graph, 2), 6)
    assert (topology.name, topology.period, topology.directed, topology.rule) == ("Mine", 2, False, "metropolis")
    assert topology.edges(0).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2], [4, 5], [5, 4]]
    assert topology.edges(3).tolist() == [[0, 5], [1, 2], [2, 1], [3, 4], [4, 3], [5, 0]]
    assert topology.weights(0).toarray()[0].tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_who_is_left_out_of_a_round_keeps_what_it_has_under_every_rule():
    def graph(self, t, clients, rng):
        return nx.cycle_graph(clients) if t else nx.Graph()

    for rule in ("metropolis", "laplacian", "uniform"):
        topology = Topology.build(schedule_of(graph, 2), 5, weights=rule)
        assert topology.weights(0).toarray().tolist() == np.eye(5).tolist()
        assert topology.messages(1) == 10


def test_a_schedule_draws_by_seed_and_round_and_may_give_matrices():
    def graph(self, t, clients, rng):
        weights = np.eye(clients) / 2 + np.eye(clients)[rng.permutation(clients)] / 4
        return csr_array((weights + weights.T) / 1.5 * np.array(1.0))

    schedule = schedule_of(graph, 8)
    first, again, other = (Topology.build(schedule, 6, seed=seed) for seed in (1, 1, 2))
    pairs = [[topology.edges(t).tolist() for t in range(8)] for topology in (first, again, other)]
    assert pairs[0] == pairs[1] != pairs[2]
    assert len({str(edges) for edges in pairs[0]}) > 1
    assert first.rule is None


def test_a_directed_schedule_serves_push_sum():
    def graph(self, t, clients, rng):
        return nx.DiGraph([(i, (i + 1 + t) % clients) for i in range(clients)] + [(0, 2)])

    topology = Topology.build(schedule_of(graph, 2), 5, column_stochastic=True)
    assert topology.column_stochastic
    np.testing.assert_allclose(topology.weights(1).sum(axis=0), 1)


@pytest.mark.parametrize(
    ("graph", "period", "message"),
    [
        (lambda self, t, n, rng: [(0, 1)], 1, "topology='Mine, round 0': graph gives a list; it must give a networkx"),
        (lambda self, t, n, rng: None, 1, "graph gives a NoneType"),
        (lambda self, t, n, rng: nx.path_graph(5), 1, "round 0': node 4 is no client; they are 0..3"),
        (lambda self, t, n, rng: nx.Graph([("a", "b")]), 1, "node 'a' is no client"),
        (lambda self, t, n, rng: nx.Graph([(0, 1), (2, 3)]), 3, "'Mine': not connected, client 0 and client 2"),
        (lambda self, t, n, rng: np.eye(3), 1, "is for 3 clients, but clients=4"),
        (lambda self, t, n, rng: np.ones((4, 4)), 2, "'Mine, matrix 0': row 0 sums to 4"),
        (lambda self, t, n, rng: nx.cycle_graph(4), 0, "period=0 must be a whole number of at least 1"),
        (lambda self, t, n, rng: nx.cycle_graph(4), 2.5, "period=2.5 must be"),
    ],
)
def test_what_a_schedule_gives_is_checked(graph, period, message):
    with pytest.raises(TopologyError, match=message):
        Topology.build(schedule_of(graph, period), 4)


def test_an_exception_of_a_schedule_passes_through():
    def fail(self, t, clients, rng):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        Topology.build(schedule_of(fail), 4)
