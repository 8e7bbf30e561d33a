"""Builds the static named graphs: who receives from whom among clients 0..n-1, by arrays where nothing is drawn.

Graphs drawn at random are networkx's, and functions of (seed, name, try), never of a global generator, so that every
process draws the same one.
"""

import math
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from declora.errors import TopologyError
from declora.seeds import derive
from declora.topology.names import TopologyName
from declora.topology.weights import receiving

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["is_static", "named_graph", "torus_shape"]

Ends = NDArray[np.int32]
"""(sender, receiver) of each edge, `[E, 2]`; of one without a direction, either."""

_TRIES = 100
"""Draws of a random graph before giving up on a connected one."""


def is_static(name: TopologyName) -> bool:
    """Whether `named_graph` knows `name`: one graph for all rounds, but the complete one, whose edges nobody needs."""
    return name.name in _GRAPHS


def named_graph(name: TopologyName, clients: int, *, seed: int) -> tuple[csr_array, bool]:
    """Returns who receives from whom in the graph `name`, as `adjacency` does, and whether it is directed.

    Raises:
        TopologyError: the graph does not exist for this number of clients.
    """
    if clients == 1:
        return receiving(np.empty((0, 2), dtype=np.int32), 1, directed=False), False
    directed = name.name in _DIRECTED
    return receiving(_GRAPHS[name.name](name, clients, seed), clients, directed=directed), directed


def torus_shape(clients: int) -> tuple[int, int]:
    """Returns the factorisation (rows, columns) of `clients` nearest to a square, rows <= columns."""
    rows = next(r for r in range(math.isqrt(clients), 0, -1) if clients % r == 0)
    return rows, clients // rows


def _torus(name: TopologyName, clients: int, seed: int) -> Ends:
    rows, columns = torus_shape(clients)
    if rows == 1:
        near = [n for n in (clients - 1, clients + 1) if torus_shape(n)[0] > 1]
        fix = f"take clients={' or '.join(map(str, near))}, or " if near else ""
        raise TopologyError(
            f"topology='torus': {clients} clients do not form rows and columns, since {clients} is prime; "
            f"{fix}topology='ring'."
        )
    places = np.arange(clients, dtype=np.int32).reshape(rows, columns)
    return np.concatenate([_joined(places, np.roll(places, -1, axis)) for axis in (0, 1)])


def _hypercube(name: TopologyName, clients: int, seed: int) -> Ends:
    dimension = clients.bit_length() - 1
    if clients != 1 << dimension:
        raise TopologyError(
            f"topology='hypercube' needs a power of two of clients, not clients={clients}; take "
            f"{1 << dimension} or {2 << dimension}, or topology='exponential', which takes any number."
        )
    places = np.arange(clients, dtype=np.int32)
    return np.concatenate([_joined(places, places ^ (1 << bit)) for bit in range(dimension)])


def _random_regular(name: TopologyName, clients: int, seed: int) -> Ends:
    import networkx as nx

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


def _erdos_renyi(name: TopologyName, clients: int, seed: int) -> Ends:
    import networkx as nx

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


def _watts_strogatz(name: TopologyName, clients: int, seed: int) -> Ends:
    import networkx as nx

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


def _exponential(name: TopologyName, clients: int, seed: int) -> Ends:
    places = np.arange(clients, dtype=np.int64)  # the farthest hop goes beyond int32 before it comes round
    hops = [1 << j for j in range((clients - 1).bit_length())]
    return np.concatenate([_joined(places, (places + hop) % clients) for hop in hops])


def _joined(senders: NDArray[Any], receivers: NDArray[Any]) -> Ends:
    """Returns an edge from each of `senders` to the one of `receivers` in its place."""
    return np.stack([senders.ravel(), receivers.ravel()], axis=1).astype(np.int32)


def _in_a_row(name: TopologyName, clients: int, seed: int) -> Ends:
    places = np.arange(clients)
    return _joined(places[:-1], places[1:])


def _ring(name: TopologyName, clients: int, seed: int) -> Ends:
    places = np.arange(clients)
    return _joined(places, np.roll(places, -1))


def _star(name: TopologyName, clients: int, seed: int) -> Ends:
    others = np.arange(1, clients)
    return _joined(np.zeros_like(others), others)


def _connected(
    draw: Callable[[int], "nx.Graph[Any]"], name: TopologyName, clients: int, seed: int, *, fix: str
) -> Ends:
    import networkx as nx

    for attempt in range(_TRIES):
        graph = draw(derive(seed, "topology", str(name), clients, attempt))
        if nx.is_connected(graph):
            return np.fromiter(chain.from_iterable(graph.edges()), dtype=np.int32).reshape(-1, 2)
    raise TopologyError(
        f"topology={str(name)!r}: none of {_TRIES} graphs drawn for clients={clients} and seed={seed} was "
        f"connected; {fix}."
    )


_GRAPHS: dict[str, Callable[[TopologyName, int, int], Ends]] = {
    "ring": _ring,
    "torus": _torus,
    "path": _in_a_row,
    "star": _star,
    "hypercube": _hypercube,
    "random-regular": _random_regular,
    "erdos-renyi": _erdos_renyi,
    "watts-strogatz": _watts_strogatz,
    "exponential": _exponential,
}
_DIRECTED = frozenset({"exponential"})
