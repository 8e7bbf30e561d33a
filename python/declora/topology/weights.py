"""Weight rules: from a graph to a doubly stochastic mixing matrix with its edges and self weights.

An adjacency matrix is a `csr_array`, float64, `[n, n]`, whose entry (i, j) is 1 where client i receives from
client j, with an empty diagonal. Mixing matrices have the same orientation.
"""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from declora.errors import TopologyError, unknown_name
from declora.topology.spectrum import largest_eigenvalue

__all__ = ["EVEN_SPLIT", "WEIGHT_RULES", "adjacency", "complete_weights", "even_split", "weigh"]

EVEN_SPLIT = "even-split"
"""The rule of push-sum, `even_split`: no mixing matrix comes of it, so it is no rule of `weigh`."""


def adjacency(graph: "nx.Graph[Any]") -> csr_array:
    """Returns who receives from whom in `graph`; weights of edges, parallel edges and self loops are ignored.

    Client i is the i-th node in sorted order where all nodes are integers, else in the graph's own order.
    """
    nodes = list(graph)
    if all(isinstance(node, (int, np.integer)) for node in nodes):
        nodes.sort()
    index = {node: client for client, node in enumerate(nodes)}
    ends = np.array([(index[a], index[b]) for a, b in graph.edges() if a != b], dtype=np.int32).reshape(-1, 2)
    senders, receivers = ends.T
    if not graph.is_directed():
        senders, receivers = np.r_[senders, receivers], np.r_[receivers, senders]
    received = csr_array((np.ones(len(senders)), (receivers, senders)), shape=(len(nodes), len(nodes)))
    # Parallel edges were summed.
    received.data[:] = 1.0
    return received


def weigh(received: csr_array, rule: str, *, name: str) -> csr_array:
    """Returns the mixing matrix of a connected graph under the weight rule `rule`, one of `WEIGHT_RULES`.

    - `metropolis`: w_ij = 1 / (1 + max(deg_i, deg_j)) (Metropolis-Hastings). Symmetric and doubly stochastic
      on any undirected graph; a client needs only its neighbours' degrees. On a directed graph with as many
      senders as receivers at each client, 1 / (1 + largest degree).
    - `uniform`: 1 / (d + 1) for each of d neighbours and oneself; regular graphs only.
    - `laplacian`: I - 2 L / (3 lambda_max(L)), the rule of Dec-LoRA (arXiv 2501.15361) for Erdos-Renyi
      graphs; undirected graphs only. Its smallest eigenvalue is 1/3.

    Args:
        received: adjacency matrix, see `adjacency`.
        rule: name of the rule.
        name: name of the topology, for errors.

    Raises:
        TopologyError: the rule gives no doubly stochastic matrix on this graph.
    """
    check_rule(rule)
    return _RULES[rule](received, name)


def check_rule(rule: str) -> None:
    """Raises `TopologyError` where `rule` is no weight rule."""
    if rule not in _RULES:
        raise TopologyError(str(unknown_name("weights", rule, _RULES)))


def complete_weights(clients: int, rule: str) -> csr_array:
    """Returns the mixing matrix of the complete graph in closed form.

    Its n^2 weights are the answer's own size; a graph object with as many edges would be ten times that.
    """
    check_rule(rule)
    other = 2 / (3 * clients) if rule == "laplacian" else 1 / clients
    data = np.full(clients * clients, other)
    data[:: clients + 1] = 1 / 3 + other if rule == "laplacian" else other
    # scipy's own choice of index type for so many entries.
    kind = np.int32 if data.size < np.iinfo(np.int32).max else np.int64
    columns = np.tile(np.arange(clients, dtype=kind), clients)
    rows = np.arange(0, data.size + 1, clients, dtype=kind)
    return csr_array((data, columns, rows), shape=(clients, clients))


def even_split(received: csr_array) -> csr_array:
    """Returns the column-stochastic matrix where each client splits its own evenly: p_ij = 1 / (receivers of j + 1).

    A client needs to know only how many it sends to (stochastic gradient push, arXiv 1811.10792).
    """
    shares = 1.0 / (1.0 + np.asarray(received.sum(axis=0), dtype=np.float64))
    others = csr_array((shares[received.indices], received.indices, received.indptr), shape=received.shape)
    return csr_array(others + diags_array(shares))


def _metropolis(received: csr_array, name: str) -> csr_array:
    degree = _balanced_degree(received, name)
    larger: NDArray[np.float64]
    if _is_symmetric(received):
        rows = np.repeat(np.arange(degree.size), np.diff(received.indptr))
        larger = np.maximum(degree[rows], degree[received.indices])
    else:
        larger = np.full(received.nnz, degree.max())
    return _with_self_weights(received, 1.0 / (1.0 + larger))


def _uniform(received: csr_array, name: str) -> csr_array:
    degree = _balanced_degree(received, name)
    if np.ptp(degree) > 0:
        few, many = int(np.argmin(degree)), int(np.argmax(degree))
        raise TopologyError(
            f"weights='uniform' needs the same number of neighbours everywhere, but in topology={name!r} "
            f"client {few} has {degree[few]:g} and client {many} has {degree[many]:g}; use "
            "weights='metropolis'."
        )
    return _with_self_weights(received, np.full(received.nnz, 1.0 / (1.0 + degree[0])))


def _laplacian(received: csr_array, name: str) -> csr_array:
    if not _is_symmetric(received):
        raise TopologyError(
            f"weights='laplacian' needs an undirected graph, and topology={name!r} is directed; use "
            "weights='metropolis'."
        )
    if received.nnz == 0:
        return _with_self_weights(received, received.data)
    laplacian = csr_array(diags_array(np.diff(received.indptr).astype(np.float64)) - received)
    return _with_self_weights(received, np.full(received.nnz, 2.0 / (3.0 * largest_eigenvalue(laplacian))))


_RULES: dict[str, Callable[[csr_array, str], csr_array]] = {
    "metropolis": _metropolis,
    "uniform": _uniform,
    "laplacian": _laplacian,
}
WEIGHT_RULES = tuple(_RULES)
"""Names of the weight rules."""


def _with_self_weights(received: csr_array, weights: NDArray[np.float64]) -> csr_array:
    others = csr_array((weights, received.indices, received.indptr), shape=received.shape)
    own = 1.0 - np.asarray(others.sum(axis=1), dtype=np.float64)
    return csr_array(others + diags_array(own))


def _balanced_degree(received: csr_array, name: str) -> NDArray[np.float64]:
    degree = np.asarray(received.sum(axis=1), dtype=np.float64)
    sends = np.asarray(received.sum(axis=0), dtype=np.float64)
    uneven = np.flatnonzero(degree != sends)
    if uneven.size:
        client = int(uneven[0])
        raise TopologyError(
            f"topology={name!r}: client {client} sends to {sends[client]:g} clients but receives from "
            f"{degree[client]:g}; a directed graph needs as many receivers as senders at each client, or an "
            "undirected graph (graph.to_undirected()), or mixer='push-sum'."
        )
    return degree


def _is_symmetric(received: csr_array) -> bool:
    return bool(abs(received - received.T).nnz == 0)
