"""Builds a topology from a name, a graph or a matrix."""

import os
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from declora import seeds
from declora.errors import TopologyError, shown
from declora.round_graph import Matrices, RoundGraph
from declora.topology import schedules
from declora.topology.check import as_matrix, check_clients, check_connected, settled
from declora.topology.files import read_file
from declora.topology.given import GraphSchedule, as_schedule
from declora.topology.labels import label_notes, ordered_nodes
from declora.topology.names import TopologyName, is_file, parse_name
from declora.topology.size import check_fits
from declora.topology.topology import Topology
from declora.topology.weights import (
    EVEN_SPLIT,
    SAMPLES,
    adjacency,
    check_rule,
    complete,
    even_split,
    keep_law,
    law_of,
    of_row,
    weigh,
)

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["build_topology", "server"]

Law = NDArray[np.float64] | None


def build_topology(
    spec: Any,
    clients: int,
    *,
    weights: str,
    seed: int,
    directed: bool,
    column_stochastic: bool,
    samples: ArrayLike | None,
) -> Topology:
    """Returns the topology of `Topology.build`, which says what the arguments are."""
    clients = check_clients(clients)
    check_rule(weights)
    if column_stochastic and weights != "metropolis":
        raise TopologyError(
            f"weights={shown(weights)} has no effect where each client splits its own evenly among its receivers, as "
            "push-sum does; leave weights out."
        )
    if weights == SAMPLES and samples is None:
        raise TopologyError(
            "weights='samples' needs how many samples each client has: a run knows it, elsewhere pass samples=[...]."
        )
    if weights != SAMPLES and samples is not None:
        raise TopologyError(f"samples has no effect with weights={weights!r}. Leave it out, or use weights='samples'.")
    rule = EVEN_SPLIT if column_stochastic else weights
    law = None if samples is None else law_of(samples, clients)
    name: str = "matrix"
    names = None
    spec = str(spec) if isinstance(spec, Path) else spec
    if is_file(spec):
        name = os.path.basename(spec)
        spec, names = read_file(os.path.expanduser(spec))
        if _is_graph(spec):
            return _from_graph(name, spec, clients, rule, law)
    if isinstance(spec, str):
        return _from_name(parse_name(spec), clients, rule, seed, law)
    if _is_graph(spec):
        return _from_graph("graph", spec, clients, rule, law)
    spec = as_schedule(spec)
    if isinstance(spec, GraphSchedule):
        return _from_schedule(spec, clients, rule, seed, law, directed)
    _refuse_weights(spec.name if isinstance(spec, Topology) else name, weights)
    if isinstance(spec, Topology):
        if spec.clients != clients:
            raise TopologyError(
                f"topology={spec.name!r} is for {spec.clients} clients, but clients={clients}; set "
                f"clients={spec.clients}."
            )
        return spec
    if not issparse(spec) and not isinstance(spec, (np.ndarray, list, tuple)):
        raise TopologyError(
            f"topology={shown(spec)} of type {type(spec).__name__} is no topology; give a name such as "
            "'ring', a networkx graph, a numpy array, a scipy sparse matrix, a Topology or a GraphSchedule."
        )
    given: Any = as_matrix(spec, name=name) if isinstance(spec, (list, tuple)) else spec
    labels = () if names is None else label_notes(list(names))
    nodes = names if labels else None
    return Topology(name, clients, (given,), directed, column_stochastic, nodes=nodes, notes=labels)


def server(clients: int, samples: ArrayLike | None = None, nodes: tuple[Hashable, ...] | None = None) -> Topology:
    """Returns the graph on which one round is what a server computes: everybody gets the mean of all.

    Args:
        clients: Number of clients.
        samples: Whole numbers `[clients]` that the mean is weighted by (n_k / n); the plain mean where None.
        nodes: What the clients are called.

    Raises:
        TopologyError: `samples` are not a whole number of at least 1 for each client.
    """
    clients = check_clients(clients)
    law = None if samples is None else law_of(samples, clients)
    if law is None:
        return Topology("complete", clients, Matrices([complete(clients, "uniform")]), rule="uniform", nodes=nodes)
    return Topology(
        "complete", clients, Matrices([of_row(law)]), law=law, rule=SAMPLES, nodes=nodes, notes=_law_notes(law)
    )


def _from_name(name: TopologyName, clients: int, rule: str, seed: int, law: Law) -> Topology:
    from declora.topology.graphs import is_static, named_graph

    check_fits(name, clients)
    if name.name == "complete":
        plain = {EVEN_SPLIT: "uniform", SAMPLES: "metropolis"}.get(rule, rule)  # which is the same split
        graph = complete(clients, plain)
        matrices = Matrices([graph if law is None else RoundGraph(settled(keep_law(graph.weights, law)))])
        return Topology(str(name), clients, matrices, law=law, rule=rule, notes=_law_notes(law))
    if not is_static(name):
        _refuse_weights(str(name), rule)
        if clients == 1:
            return Topology(str(name), 1, (csr_array(np.ones((1, 1))),))
        if name.name == "base":
            return Topology(str(name), clients, schedules.base(clients, int(name.parameters[0])))
        return Topology(str(name), clients, schedules.one_peer_exponential(clients), directed=True)
    received, directed = named_graph(name, clients, seed=seed)
    return _weighed(str(name), received, directed, rule, law)


def _from_graph(name: str, graph: "nx.Graph[Any]", clients: int, rule: str, law: Law) -> Topology:
    if len(graph) != clients:
        raise TopologyError(
            f"topology={name!r} has {len(graph)} nodes, but clients={clients}; each client is one node, so "
            f"set clients={len(graph)} or change the graph."
        )
    received = adjacency(graph)
    check_connected((received,), name=name)
    nodes = ordered_nodes(graph)
    labels = label_notes(nodes)
    called = tuple(nodes) if labels else None
    notes = labels + _unused_weights(graph, rule)
    return _weighed(name, received, graph.is_directed(), rule, law, nodes=called, notes=notes)


def _weighed(
    name: str,
    received: csr_array,
    directed: bool,
    rule: str,
    law: Law,
    *,
    nodes: tuple[Hashable, ...] | None = None,
    notes: tuple[str, ...] = (),
) -> Topology:
    """Returns the topology of a connected graph, given as who receives from whom."""
    split = rule == EVEN_SPLIT
    return Topology(
        name,
        received.shape[0],
        (settled(even_split(received) if split else weigh(received, rule, name=name, law=law)),),
        directed or split,
        column_stochastic=split,
        law=law,
        rule=rule,
        nodes=nodes,
        notes=notes + _law_notes(law),
    )


def _from_schedule(schedule: GraphSchedule, clients: int, rule: str, seed: int, law: Law, directed: bool) -> Topology:
    """Asks for the graphs of one period; how a graph is weighed, and what the matrices must be, is as for any other."""
    name, period = str(schedule), schedule.period
    if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 1:
        raise TopologyError(f"topology={name!r}: period={shown(period)} must be a whole number of at least 1.")
    matrices: list[Any] = []
    weighed = False
    for t in range(period):
        graph = schedule.graph(t, clients, seeds.generator(seed, "graph-schedule", t))
        where = f"{name}, round {t}"
        if _is_graph(graph):
            if strangers := [node for node in graph if not _is_client(node, clients)]:
                raise TopologyError(
                    f"topology={where!r}: node {shown(strangers[0])} is no client; they are 0..{clients - 1}."
                )
            graph = graph.copy()  # the user's own stays as it is
            graph.add_nodes_from(range(clients))
            received = adjacency(graph)
            weighed, directed = True, directed or graph.is_directed() or rule == EVEN_SPLIT
            matrices.append(even_split(received) if rule == EVEN_SPLIT else weigh(received, rule, name=where, law=law))
        elif issparse(graph) or isinstance(graph, np.ndarray):
            _refuse_weights(where, rule)
            matrices.append(graph)
        else:
            raise TopologyError(
                f"topology={where!r}: graph gives a {type(graph).__name__}; it must give a networkx graph or a mixing "
                "matrix."
            )
    return Topology(
        name,
        clients,
        tuple(matrices),
        directed,
        column_stochastic=rule == EVEN_SPLIT,
        law=law,
        rule=rule if weighed else None,
        notes=_law_notes(law),
    )


def _is_graph(value: Any) -> "TypeGuard[nx.Graph[Any]]":
    import networkx as nx

    return isinstance(value, nx.Graph)


def _is_client(node: object, clients: int) -> bool:
    whole = isinstance(node, int | np.integer) and not isinstance(node, bool)
    return whole and 0 <= int(node) < clients  # type: ignore[call-overload]


def _law_notes(law: Law) -> tuple[str, ...]:
    if law is None:
        return ()
    return (
        f"Clients count by their samples, {law.min():.2g} to {law.max():.2g} of the whole, in the averaged model, too.",
    )


def _unused_weights(graph: "nx.Graph[Any]", rule: str) -> tuple[str, ...]:
    edges: Any = graph.edges(data="weight")
    if len({weight for *_, weight in edges if weight is not None}) < 2:
        return ()
    return (
        f"The edge weights of the graph are not used: those of gossip are {rule}. Give a mixing matrix to set them.",
    )


def _refuse_weights(name: str, rule: str) -> None:
    if rule not in ("metropolis", EVEN_SPLIT):
        raise TopologyError(
            f"weights={rule!r} has no effect on topology={name!r}, which brings its own weights; leave weights out."
        )
