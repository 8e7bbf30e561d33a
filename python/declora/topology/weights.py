"""Weighs a graph: each rule makes a doubly stochastic mixing matrix of its edges, with self weights.

An adjacency matrix is a `csr_array`, float64, `[n, n]`, whose entry (i, j) is 1 where client i receives from
client j, with an empty diagonal. Mixing matrices have the same orientation.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array

from declora.errors import TopologyError, shown, unknown_name
from declora.round_graph import CompleteGraph
from declora.topology.check import settled
from declora.topology.labels import ordered_nodes
from declora.topology.size import check_dense

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "EVEN_SPLIT",
    "SAMPLES",
    "WEIGHT_RULES",
    "adjacency",
    "check_rule",
    "complete",
    "even_split",
    "keep_law",
    "law_of",
    "of_row",
    "receiving",
    "weigh",
]

EVEN_SPLIT = "even-split"
"""The rule of push-sum, `even_split`: no mixing matrix comes of it, so it is no rule of `weigh`."""
SAMPLES = "samples"
"""The rule that keeps the mean weighted by samples, `keep_law` of the metropolis weights."""


def adjacency(graph: "nx.Graph[Any]") -> csr_array:
    """Returns who receives from whom in `graph`; weights of edges, parallel edges and self loops are ignored.

    Client i is the i-th node, in rising order where all nodes are whole numbers or texts that spell them, else in the
    graph's own order.
    """
    nodes = ordered_nodes(graph)
    index = {node: client for client, node in enumerate(nodes)}
    ends = np.array([(index[a], index[b]) for a, b in graph.edges() if a != b], dtype=np.int32).reshape(-1, 2)
    return receiving(ends, len(nodes), directed=graph.is_directed())


def receiving(ends: NDArray[np.int32], clients: int, *, directed: bool) -> csr_array:
    """Returns who receives from whom where edges join `ends [E, 2]`, no client and itself, in either direction.

    Args:
        ends: (sender, receiver) of each edge; of an edge that is there twice, one counts.
        clients: Number of clients.
        directed: Whether an edge goes one way only.
    """
    senders, receivers = ends.T
    if not directed:
        senders, receivers = np.r_[senders, receivers], np.r_[receivers, senders]
    received = csr_array((np.ones(len(senders)), (receivers, senders)), shape=(clients, clients))
    # Parallel edges were summed.
    received.data[:] = 1.0
    return received


def weigh(received: csr_array, rule: str, *, name: str, law: NDArray[np.float64] | None = None) -> csr_array:
    """Returns the mixing matrix of a connected graph under the weight rule `rule`, one of `WEIGHT_RULES`.

    - `metropolis`: w_ij = 1 / (1 + max(deg_i, deg_j)) (Metropolis-Hastings). Symmetric and doubly stochastic
      on any undirected graph; a client needs only its neighbours' degrees. On a directed graph with as many
      senders as receivers at each client, 1 / (1 + largest degree).
    - `uniform`: 1 / (d + 1) for each of d neighbours and oneself; regular graphs only.
    - `laplacian`: I - 2 L / (3 lambda_max(L)), the rule of Dec-LoRA (arXiv 2501.15361) for Erdos-Renyi
      graphs; undirected graphs only. Its smallest eigenvalue is 1/3.
    - `samples`: the metropolis weights, changed so that gossip keeps the mean weighted by `law` instead of the plain
      one, see `keep_law`; undirected graphs only.

    Args:
        received: adjacency matrix, see `adjacency`.
        rule: name of the rule.
        name: name of the topology, for errors.
        law: pi `[n]`, positive with sum 1, for `samples`; 1/n each where None.

    Raises:
        TopologyError: the rule gives no matrix with the right sums on this graph.
    """
    check_rule(rule)
    return keep_law(_RULES[rule](received, name), law if rule == SAMPLES else None)


def check_rule(rule: str) -> None:
    """Raises `TopologyError` where `rule` is no weight rule."""
    if rule not in _RULES:
        raise TopologyError(str(unknown_name("weights", rule, _RULES)))


def law_of(samples: ArrayLike, clients: int) -> NDArray[np.float64] | None:
    """Returns each client's share of the samples, float64 `[clients]`; None where all have as many.

    Raises:
        TopologyError: `samples` are not a whole number of at least 1 for each client.
    """
    counts = np.asarray(samples)
    if counts.shape != (clients,) or counts.dtype.kind not in "iu" or (counts < 1).any():
        raise TopologyError(
            f"samples={shown(samples)} must be a whole number of at least 1 for each of the {clients} clients."
        )
    law: NDArray[np.float64] = counts / counts.sum(dtype=np.float64)  # int64 would overflow
    return None if (counts == counts[0]).all() else law


def keep_law(mixing: csr_array, law: NDArray[np.float64] | None) -> csr_array:
    """Returns the matrix P of the same graph that keeps the mean weighted by `law`, pi `[n]`: pi P = pi.

    P_ij = Q_ij min(1, pi_j / pi_i) for the symmetric matrix Q = `mixing`, and the rest of each row at home: the rule of
    Metropolis and Hastings for a chain with that stationary law, which it keeps in detailed balance,
    pi_i P_ij = pi_j P_ji. Q itself where `law` is None, 1/n each.
    """
    if law is None:
        return mixing
    receivers, senders = mixing.tocoo().coords
    others = receivers != senders
    receivers, senders = receivers[others], senders[others]
    weights = mixing.data[others] * np.minimum(1.0, law[senders] / law[receivers])
    return _with_self_weights(csr_array((weights, (receivers, senders)), shape=mixing.shape))


def complete(clients: int, rule: str) -> CompleteGraph:
    """Returns the complete graph under a weight rule, in closed form."""
    check_rule(rule)
    home, other = (1 / 3, 2 / (3 * clients)) if rule == "laplacian" else (0.0, 1 / clients)
    return of_row(np.full(clients, other), home)


def of_row(row: NDArray[np.float64], home: float = 0.0) -> CompleteGraph:
    """Returns the complete graph on which all clients apply the same `row [clients]`, and keep `home` besides."""
    row = row.copy()
    row.flags.writeable = False
    return CompleteGraph(row, home, partial(_entries, row, home))


def _entries(row: NDArray[np.float64], home: float) -> csr_array:
    """Returns the n^2 weights, read-only."""
    clients = len(row)
    check_dense("complete", clients)
    data = np.tile(row, clients)
    data[:: clients + 1] = row + home
    # scipy's own choice of index type for so many entries.
    kind = np.int32 if data.size < np.iinfo(np.int32).max else np.int64
    columns = np.empty(data.size, dtype=kind)  # of its own, and so not copied by who is to keep it
    columns.reshape(clients, clients)[:] = np.arange(clients, dtype=kind)
    rows = np.arange(0, data.size + 1, clients, dtype=kind)
    return settled(csr_array((data, columns, rows), shape=(clients, clients)))


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
    return _with_self_weights(_weighted(received, 1.0 / (1.0 + larger)))


def _uniform(received: csr_array, name: str) -> csr_array:
    degree = _balanced_degree(received, name)
    if np.ptp(degree) > 0:
        few, many = int(np.argmin(degree)), int(np.argmax(degree))
        raise TopologyError(
            f"weights='uniform' needs the same number of neighbours everywhere, but in topology={name!r} "
            f"client {few} has {degree[few]:g} and client {many} has {degree[many]:g}; use "
            "weights='metropolis'."
        )
    return _with_self_weights(_weighted(received, np.full(received.nnz, 1.0 / (1.0 + degree[0]))))


def _laplacian(received: csr_array, name: str) -> csr_array:
    _check_undirected(received, "laplacian", name)
    if received.nnz == 0:
        return _with_self_weights(received)
    laplacian = csr_array(diags_array(np.diff(received.indptr).astype(np.float64)) - received)
    from declora.topology.spectrum import largest_eigenvalue

    weight = 2.0 / (3.0 * largest_eigenvalue(laplacian))
    return _with_self_weights(_weighted(received, np.full(received.nnz, weight)))


def _samples(received: csr_array, name: str) -> csr_array:
    _check_undirected(received, SAMPLES, name)
    return _metropolis(received, name)


_RULES: dict[str, Callable[[csr_array, str], csr_array]] = {
    "metropolis": _metropolis,
    "uniform": _uniform,
    "laplacian": _laplacian,
    SAMPLES: _samples,
}
WEIGHT_RULES = tuple(_RULES)
"""Names of the weight rules."""


def _weighted(received: csr_array, weights: NDArray[np.float64]) -> csr_array:
    return csr_array((weights, received.indices, received.indptr), shape=received.shape)


def _with_self_weights(others: csr_array) -> csr_array:
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


def _check_undirected(received: csr_array, rule: str, name: str) -> None:
    if not _is_symmetric(received):
        raise TopologyError(
            f"weights={rule!r} needs an undirected graph, and topology={name!r} is directed; use weights='metropolis'."
        )


def _is_symmetric(received: csr_array) -> bool:
    return bool(abs(received - received.T).nnz == 0)
