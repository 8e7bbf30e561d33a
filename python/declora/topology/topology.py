"""The topology of a run: who mixes with whom in round t, and with which weights."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from declora.errors import TopologyError
from declora.topology import schedules
from declora.topology.check import TOLERANCE, as_matrix, check_clients, check_connected, check_mixes, check_weights
from declora.topology.graphs import is_static, named_graph
from declora.topology.names import TopologyName, parse_name
from declora.topology.spectrum import second_modulus
from declora.topology.weights import EVEN_SPLIT, adjacency, check_rule, complete_weights, even_split, weigh

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Topology"]


@dataclass(frozen=True, eq=False)
class Topology:
    """A mixing matrix per round: non-negative, doubly stochastic, connected, and symmetric unless directed.

    For push-sum (`column_stochastic`) the rows need not sum to 1.

    `Topology.build` makes one from a name, a graph or a matrix. Called directly, the class takes any
    schedule: `Topology("mine", 4, (w0, w1))` uses w0 in even rounds and w1 in odd ones. The graph of a
    single round may be disconnected, the union over a period may not.

    Raises:
        TopologyError: a matrix fails a check; the message names the row and the fix.
    """

    name: str
    """What it was built from: a name with its parameters, "graph" or "matrix"."""
    clients: int
    """Number of clients n; clients are 0..n-1."""
    matrices: tuple[csr_array, ...]
    """Mixing matrices of one period, float64 `[n, n]`, sorted CSR, read-only. Row i is what client i applies
    to what it receives; w_ij > 0 with j != i means that j sends to i."""
    directed: bool = False
    """Whether w_ij may differ from w_ji."""
    column_stochastic: bool = False
    """Whether only columns sum to 1: column j is how client j splits its own among its receivers, for push-sum."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clients", check_clients(self.clients))
        object.__setattr__(self, "directed", self.directed or self.column_stochastic)
        if not self.matrices:
            raise TopologyError(f"topology={self.name!r}: matrices={self.matrices!r} must hold at least one matrix.")
        several = len(self.matrices) > 1
        checked = []
        for phase, values in enumerate(self.matrices):
            name = f"{self.name}, matrix {phase}" if several else self.name
            matrix = as_matrix(values, name=name)
            if matrix.shape[0] != self.clients:
                raise TopologyError(
                    f"topology={name!r} is for {matrix.shape[0]} clients, but clients={self.clients}; set "
                    f"clients={matrix.shape[0]} or give a {self.clients} x {self.clients} matrix."
                )
            check_weights(matrix, name=name, directed=self.directed, column_stochastic=self.column_stochastic)
            for part in (matrix.data, matrix.indices, matrix.indptr):
                part.flags.writeable = False
            checked.append(matrix)
        check_connected(checked, name=self.name)
        if not several:
            check_mixes(checked[0], name=self.name)
        object.__setattr__(self, "matrices", tuple(checked))

    @staticmethod
    def build(
        spec: "str | nx.Graph[Any] | ArrayLike | csr_array | Topology",
        clients: int,
        *,
        weights: str = "metropolis",
        seed: int = 0,
        directed: bool = False,
        column_stochastic: bool = False,
    ) -> "Topology":
        """Builds a topology.

        Args:
            spec: one of
                - a name: ring, torus, path, star (client 0 in the centre), complete, hypercube,
                  random-regular:D (D=4), erdos-renyi:P (P=0.5), watts-strogatz:K:P (K=4, P=0.1),
                  exponential, one-peer-exponential, base:K (K=1; at most K peers a round, exact average
                  after a period). Exponential ones are directed.
                - a networkx graph. Client i is the i-th node: in sorted order where all nodes are integers,
                  else in the graph's own order. Its edge weights and self loops are ignored; edges of a
                  DiGraph point from sender to receiver.
                - a numpy array or scipy sparse matrix `[n, n]`, used as the mixing matrix as it is.
                - a `Topology`, returned as it is.
            clients: number of clients n >= 1. One client is [[1]] under any name.
            weights: metropolis (any graph), uniform (regular graphs) or laplacian (undirected graphs), see
                `declora.topology.weigh`. Only for graphs: the other kinds bring their weights with them.
            seed: seed of the run; random graphs are a function of it.
            directed: whether a given matrix may be asymmetric. Names and graphs know it themselves.
            column_stochastic: build for push-sum, which takes any strongly connected digraph: in a graph each client
                splits its own evenly, 1 / (receivers + 1); a given matrix needs columns that sum to 1, no more.
                Time-varying names are doubly stochastic and stay as they are.

        Raises:
            TopologyError: the topology does not exist for so many clients, is not connected, or a check
            fails.
        """
        clients = check_clients(clients)
        check_rule(weights)
        if column_stochastic and weights != "metropolis":
            raise TopologyError(
                f"weights={weights!r} has no effect where each client splits its own evenly among its receivers, as "
                "push-sum does; leave weights out."
            )
        rule = EVEN_SPLIT if column_stochastic else weights
        if isinstance(spec, str):
            return _from_name(parse_name(spec), clients, rule, seed)
        if isinstance(spec, nx.Graph):
            return _from_graph("graph", spec, clients, rule)
        _refuse_weights(spec.name if isinstance(spec, Topology) else "matrix", weights)
        if isinstance(spec, Topology):
            if spec.clients != clients:
                raise TopologyError(
                    f"topology={spec.name!r} is for {spec.clients} clients, but clients={clients}; set "
                    f"clients={spec.clients}."
                )
            return spec
        if not issparse(spec) and not isinstance(spec, (np.ndarray, list, tuple)):
            raise TopologyError(
                f"topology={spec!r} of type {type(spec).__name__} is no topology; give a name such as "
                "'ring', a networkx graph, a numpy array, a scipy sparse matrix or a Topology."
            )
        return Topology("matrix", clients, (as_matrix(spec, name="matrix"),), directed, column_stochastic)

    @property
    def period(self) -> int:
        """Number of rounds after which the weights repeat; 1 where they never change."""
        return len(self.matrices)

    @cached_property
    def symmetric(self) -> bool:
        """Whether w_ij = w_ji in every round (within 1e-9)."""
        if not self.directed:
            return True
        return all(abs(matrix - matrix.T).max() <= TOLERANCE for matrix in self.matrices)

    @cached_property
    def slem(self) -> float:
        """Second largest eigenvalue modulus of the mixing matrix: what a round leaves of disagreement.

        For a schedule, ||product over a period - J||_2 to the power 1/period, with J = all 1/n: the mean
        factor of a round; 0 where the period averages exactly. Computed on first use, by sparse solvers for
        many clients.
        """
        return second_modulus(self.matrices, symmetric=self.symmetric)

    @property
    def spectral_gap(self) -> float:
        """1 - slem: 1 agrees at once, 0 never."""
        return 1.0 - self.slem

    def weights(self, t: int) -> csr_array:
        """Returns the mixing matrix of round t (counted from 0)."""
        return self.matrices[t % self.period]

    def neighbours(self, t: int, i: int) -> list[int]:
        """Returns the clients whose values client i receives in round t, ascending, without i itself."""
        if not 0 <= i < self.clients:
            raise TopologyError(f"client i={i} is not in topology={self.name!r}; clients are 0..{self.clients - 1}.")
        matrix = self.weights(t)
        row = matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]]
        return [int(j) for j in row if j != i]

    def edges(self, t: int) -> NDArray[np.int32]:
        """Returns the messages (sender, receiver) of round t, int32 `[E, 2]`, sorted; an undirected edge gives two."""
        return self._edges[t % self.period]

    @cached_property
    def _edges(self) -> tuple[NDArray[np.int32], ...]:
        """Those of all rounds of the period: a dense graph has as many as weights, too many to find in every round."""
        found = []
        for matrix in self.matrices:
            receivers, senders = matrix.tocsc().tocoo().coords  # by column, so sorted by sender
            pairs = np.stack([senders, receivers], axis=1, dtype=np.int32)[senders != receivers]
            pairs.flags.writeable = False
            found.append(pairs)
        return tuple(found)

    def messages(self, t: int) -> int:
        """Returns how many messages round t sends: its directed edges."""
        matrix = self.weights(t)
        return int(matrix.nnz - np.count_nonzero(matrix.diagonal()))

    def graph(self, t: int = 0) -> "nx.Graph[Any]":
        """Returns the graph of round t on nodes 0..n-1 with edge attribute `weight`, without self loops.

        A `Graph` where the topology is symmetric, else a `DiGraph` with edges from sender to receiver.
        """
        graph: nx.Graph[Any] = nx.Graph() if self.symmetric else nx.DiGraph()
        graph.add_nodes_from(range(self.clients))
        matrix = self.weights(t).tocoo()
        receivers, senders = matrix.coords
        entries = zip(senders.tolist(), receivers.tolist(), matrix.data.tolist(), strict=True)
        graph.add_weighted_edges_from((j, i, weight) for j, i, weight in entries if i != j)
        return graph

    def describe(self, *, payload_bytes: int | None = None) -> str:
        """Returns the text of `declora.topology.describe`."""
        from declora.topology.summary import describe

        return describe(self, payload_bytes=payload_bytes)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the graph, see `declora.topology.plot`."""
        from declora.topology.drawing import plot

        return plot(self, ax)


def _from_name(name: TopologyName, clients: int, weights: str, seed: int) -> Topology:
    if not is_static(name):
        _refuse_weights(str(name), weights)
        if clients == 1:
            return Topology(str(name), 1, (csr_array(np.ones((1, 1))),))
        if name.name == "base":
            return Topology(str(name), clients, schedules.base(clients, int(name.parameters[0])))
        return Topology(str(name), clients, schedules.one_peer_exponential(clients), directed=True)
    if name.name == "complete":
        rule = "uniform" if weights == EVEN_SPLIT else weights  # which is the same split
        return Topology(str(name), clients, (complete_weights(clients, rule),))
    return _from_graph(str(name), named_graph(name, clients, seed=seed), clients, weights)


def _from_graph(name: str, graph: "nx.Graph[Any]", clients: int, weights: str) -> Topology:
    if len(graph) != clients:
        raise TopologyError(
            f"topology={name!r} has {len(graph)} nodes, but clients={clients}; each client is one node, so "
            f"set clients={len(graph)} or change the graph."
        )
    received = adjacency(graph)
    check_connected((received,), name=name)
    if weights == EVEN_SPLIT:
        return Topology(name, clients, (even_split(received),), directed=True, column_stochastic=True)
    return Topology(name, clients, (weigh(received, weights, name=name),), graph.is_directed())


def _refuse_weights(name: str, weights: str) -> None:
    if weights not in ("metropolis", EVEN_SPLIT):
        raise TopologyError(
            f"weights={weights!r} has no effect on topology={name!r}, which brings its own weights; leave weights out."
        )
