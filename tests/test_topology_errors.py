"""What gossip cannot use is refused, with the row or client and the fix."""

import networkx as nx
import numpy as np
import pytest

from declora.errors import ConfigError, TopologyError
from declora.topology import Topology

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
        ("ring:3", 4, r"topology='ring:3': ring takes no options. Write topology='ring'"),
        ("base:1:2", 4, r"'base:1:2': base takes no 2 values. Write e.g. base:k=1"),
        ("base:0", 4, r"'base:0': k='0' must be a whole number of at least 1 .*, e.g. base:k=1"),
        ("base:x", 4, r"k='x' must be a whole number"),
        ("watts-strogatz::6", 4, r"p='6' must be a number"),
        ("watts-strogatz:j=4", 8, r"option of topology watts-strogatz='j' is not known.*Known: k, p"),
        ("watts-strogatz:4,k=6", 8, r"gives k twice"),
        ("random-regular:2.5", 4, r"d='2.5' must be a whole number"),
        ("erdos-renyi:1.5", 4, r"p='1.5' must be a number of at least 0 and at most 1, e.g. erdos-renyi:p=0.5"),
        ("erdos-renyi:nan", 4, r"p='nan' must be a number of at least 0 and at most 1"),
        ("erdos-renyi:0.001", 50, r"'erdos-renyi:0.001': none of 100 .* clients=50 and seed=0 .*raise p .* 0.078"),
        ("torus", 13, r"topology='torus': 13 clients .* 13 is prime; take clients=12 or 14, or topology='ring'"),
        ("hypercube", 12, r"'hypercube' needs a power of two .* not clients=12; take 8 or 16"),
        ("random-regular:5", 5, r"'random-regular:5': .* 5 neighbours among clients=5; lower d to 4"),
        ("random-regular:3", 5, r"clients \* d = 5 \* 3 is odd.*make d or clients even"),
        ("random-regular:1", 6, r"'random-regular:1' joins clients in pairs only; raise d to 2"),
        ("watts-strogatz:3", 8, r"k=3 must be even and below clients=8"),
        ("watts-strogatz:8", 8, r"k=8 must be even and below clients=8"),
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
