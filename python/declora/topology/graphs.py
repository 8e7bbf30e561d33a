"""Builds the static named graphs, as networkx graphs on clients 0..n-1.

Graphs drawn at random are functions of (seed, name, try), never of a global generator, so that every process
draws the same one.
"""

import math
from collections.abc import Callable
from typing import Any

import networkx as nx

from declora.errors import TopologyError
from declora.seeds import derive
from declora.topology.names import TopologyName

__all__ = ["is_static", "named_graph", "torus_shape"]

_TRIES = 100
"""Draws of a random graph before giving up on a connected one."""


def is_static(name: TopologyName) -> bool:
    """Whether `name` is one graph for all rounds (and not a schedule)."""
    return name.name in _GRAPHS


def named_graph(name: TopologyName, clients: int, *, seed: int) -> "nx.Graph[Any]":
    """Returns the graph `name` on nodes 0..clients-1; a `DiGraph` (sender -> receiver) where it is directed.

    Raises:
        TopologyError: the graph does not exist for this number of clients.
    """
    return _GRAPHS[name.name](name, clients, seed) if clients > 1 else nx.empty_graph(1)


def torus_shape(clients: int) -> tuple[int, int]:
    """Returns the factorisation (rows, columns) of `clients` nearest to a square, rows <= columns."""
    rows = next(r for r in range(math.isqrt(clients), 0, -1) if clients % r == 0)
    return rows, clients // rows


def _torus(name: TopologyName, clients: int, seed: int) -> "nx.Graph[Any]":
    rows, columns = torus_shape(clients)
    if rows == 1:
        near = [n for n in (clients - 1, clients + 1) if torus_shape(n)[0] > 1]
        fix = f"take clients={' or '.join(map(str, near))}, or " if near else ""
        raise TopologyError(
            f"topology='torus': {clients} clients do not form rows and columns, since {clients} is prime; "
            f"{fix}topology='ring'."
        )
    grid: nx.Graph[Any] = nx.grid_2d_graph(rows, columns, periodic=True)
    return nx.relabel_nodes(grid, {(row, column): row * columns + column for row, column in grid})


def _hypercube(name: TopologyName, clients: int, seed: int) -> "nx.Graph[Any]":
    dimension = clients.bit_length() - 1
    if clients != 1 << dimension:
        raise TopologyError(
            f"topology='hypercube' needs a power of two of clients, not clients={clients}; take "
            f"{1 << dimension} or {2 << dimension}, or topology='exponential', which takes any number."
        )
    graph: nx.Graph[Any] = nx.Graph()
    graph.add_edges_from((i, i ^ (1 << bit)) for i in range(clients) for bit in range(dimension))
    return graph


def _random_regular(name: TopologyName, clients: int, seed: int) -> "nx.Graph[Any]":
    degree = int(name.parameters[0])
    if degree >= clients:
        raise TopologyError(
            f"topology={str(name)!r}: a client cannot have {degree} neighbours among clients={clients}; "
            f"lower d to {clients - 1} or less."
        )
    if degree * clients % 2:
        raise TopologyError(
            f"topology={str(name)!r}: clients * d = {clients} * {degree} is odd, and every edge has two "
            "ends; make d or clients even."
        )
    if degree == 1 and clients > 2:
        raise TopologyError(f"topology={str(name)!r} joins clients in pairs only; raise d to 2 or more.")

    # The pairing of networkx stalls near the complete graph; the complement is sparse there.
    dense = degree > clients // 2
    drawn = clients - 1 - degree if dense else degree

    def draw(seed: int) -> "nx.Graph[Any]":
        graph: nx.Graph[Any] = nx.random_regular_graph(drawn, clients, seed=seed)
        return graph if not dense else nx.complement(graph)

    return _connected(draw, name, clients, seed, fix="raise d")


def _erdos_renyi(name: TopologyName, clients: int, seed: int) -> "nx.Graph[Any]":
    probability = float(name.parameters[0])
    drawn = probability if 1.0 - probability < 1.0 else 0.0  # networkx divides by log(1 - p)
    threshold = math.log(clients) / clients
    return _connected(
        lambda seed: nx.fast_gnp_random_graph(clients, drawn, seed=seed),
        name,
        clients,
        seed,
        fix=f"raise p well above log(clients) / clients = {threshold:.2g}",
    )


def _watts_strogatz(name: TopologyName, clients: int, seed: int) -> "nx.Graph[Any]":
    nearest, probability = int(name.parameters[0]), float(name.parameters[1])
    if nearest % 2 or nearest >= clients:
        raise TopologyError(
            f"topology={str(name)!r}: k={nearest} must be even and below clients={clients}; k / 2 neighbours "
            "lie on each side of a client."
        )
    return _connected(
        lambda seed: nx.watts_strogatz_graph(clients, nearest, probability, seed=seed),
        name,
        clients,
        seed,
        fix="raise k or lower p",
    )


def _exponential(name: TopologyName, clients: int, seed: int) -> "nx.Graph[Any]":
    hops = [1 << j for j in range((clients - 1).bit_length())]
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from(range(clients))
    graph.add_edges_from((i, (i + hop) % clients) for i in range(clients) for hop in hops)
    return graph


def _connected(
    draw: Callable[[int], "nx.Graph[Any]"], name: TopologyName, clients: int, seed: int, *, fix: str
) -> "nx.Graph[Any]":
    for attempt in range(_TRIES):
        graph = draw(derive(seed, "topology", str(name), clients, attempt))
        if nx.is_connected(graph):
            return graph
    raise TopologyError(
        f"topology={str(name)!r}: none of {_TRIES} graphs drawn for clients={clients} and seed={seed} was "
        f"connected; {fix}."
    )


_GRAPHS: dict[str, Callable[[TopologyName, int, int], "nx.Graph[Any]"]] = {
    "ring": lambda name, clients, seed: nx.cycle_graph(clients),
    "torus": _torus,
    "path": lambda name, clients, seed: nx.path_graph(clients),
    "star": lambda name, clients, seed: nx.star_graph(clients - 1),
    "complete": lambda name, clients, seed: nx.complete_graph(clients),
    "hypercube": _hypercube,
    "random-regular": _random_regular,
    "erdos-renyi": _erdos_renyi,
    "watts-strogatz": _watts_strogatz,
    "exponential": _exponential,
}
