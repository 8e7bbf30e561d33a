"""Holds the topology of a run: who mixes with whom in round t, and with which weights."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, eye_array

from declora.errors import TopologyError, cut
from declora.notebook import displayed, facts_html
from declora.round_graph import CompleteGraph, Matrices, RoundGraph
from declora.topology.check import (
    TOLERANCE,
    as_matrix,
    check_clients,
    check_connected,
    check_mixes,
    check_weights,
    settled,
)
from declora.topology.rounding import is_coarse, unrounded
from declora.topology.size import check_dense

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

__all__ = ["Topology"]


@dataclass(frozen=True, eq=False, repr=False)
class Topology:
    """Holds a mixing matrix per round: non-negative, doubly stochastic, connected, and symmetric unless directed.

    For push-sum (`column_stochastic`) the rows need not sum to 1. With a `law` pi other than 1/n, rows sum to 1,
    pi W = pi and, unless directed, pi_i w_ij = pi_j w_ji: gossip then keeps the mean weighted by pi.

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
    matrices: Sequence[csr_array]
    """Mixing matrices of one period, float64 `[n, n]`, sorted CSR, read-only. Row i is what client i applies
    to what it receives; w_ij > 0 with j != i means that j sends to i. That of a complete graph is made when it is
    read."""
    directed: bool = False
    """Whether w_ij may differ from w_ji."""
    column_stochastic: bool = False
    """Whether only columns sum to 1: column j is how client j splits its own among its receivers, for push-sum."""
    law: NDArray[np.float64] | None = None
    """pi `[n]`, positive with sum 1: what each client counts in the mean that gossip keeps; 1/n each where None."""
    rule: str | None = None
    """The weight rule that made the matrices from a graph; None where they were given or are part of a schedule."""
    nodes: tuple[Hashable, ...] | None = None
    """Of a graph whose nodes are not 0..n-1: node i is client i."""
    notes: tuple[str, ...] = ()
    """What was guessed or changed, in whole sentences."""
    graphs: tuple[RoundGraph, ...] = field(init=False)
    """Who hears whom in each round of a period, with which weights."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clients", check_clients(self.clients))
        object.__setattr__(self, "directed", self.directed or self.column_stochastic)
        if not self.matrices:
            raise TopologyError(f"topology={self.name!r}: matrices={self.matrices!r} must hold at least one matrix.")
        several = len(self.matrices) > 1
        graphs, notes = list[RoundGraph](), []
        for phase, values in enumerate(self.matrices.graphs if isinstance(self.matrices, Matrices) else self.matrices):
            if isinstance(values, CompleteGraph) and values.averages(self.clients, self.law):
                graphs.append(values)
                continue
            values = values.weights if isinstance(values, RoundGraph) else values
            name = f"{self.name}, matrix {phase}" if several else self.name
            matrix = as_matrix(values, name=name)
            if matrix.shape[0] != self.clients:
                raise TopologyError(
                    f"topology={name!r} is for {matrix.shape[0]} clients, but clients={self.clients}; set "
                    f"clients={matrix.shape[0]} or give a {self.clients} x {self.clients} matrix."
                )
            shape = {"directed": self.directed, "column_stochastic": self.column_stochastic}
            given = getattr(values, "dtype", matrix.dtype)
            if self.law is None and is_coarse(given):
                matrix, off = unrounded(matrix, given, **shape)
                if off:
                    notes.append(
                        f"The {given} weights of topology={name!r} were off by up to {off:.1g}; they were taken to "
                        "float64 and scaled so that their sums are 1."
                    )
            check_weights(matrix, name=name, law=self.law, **shape)
            graphs.append(RoundGraph(settled(matrix)))
        everybody = any(isinstance(graph, CompleteGraph) for graph in graphs)
        if not everybody:
            check_connected([graph.weights for graph in graphs], name=self.name)
            if not several:
                check_mixes(graphs[0].weights, name=self.name)
        object.__setattr__(self, "graphs", tuple(graphs))
        matrices = Matrices(graphs) if everybody else tuple(graph.weights for graph in graphs)
        object.__setattr__(self, "matrices", matrices)
        object.__setattr__(self, "notes", (*self.notes, *notes))

    @staticmethod
    def build(
        spec: "str | nx.Graph[Any] | ArrayLike | csr_array | Topology",
        clients: int,
        *,
        weights: str = "metropolis",
        seed: int = 0,
        directed: bool = False,
        column_stochastic: bool = False,
        samples: ArrayLike | None = None,
    ) -> "Topology":
        """Builds a topology.

        Args:
            spec: one of
                - a name: ring, torus, path, star (client 0 in the centre), complete, hypercube,
                  random-regular:d=4, erdos-renyi:p=0.5, watts-strogatz:k=4,p=0.1, exponential,
                  one-peer-exponential, base:k=1 (at most k peers a round, exact average after a period), each
                  with its defaults; "erdos-renyi:0.5" is the same. Exponential ones are directed.
                - a file: `.graphml`; `.csv` with columns `source` and `target`, an edge a line; or a mixing matrix as
                  `.csv` (with names of clients in the first line and column, if they have some), `.npy` or `.npz`.
                - a networkx graph. Client i is the i-th node, in rising order where all nodes are whole numbers
                  or texts that spell them, else in the graph's own order. Its edge weights and self loops are
                  ignored; edges of a DiGraph point from sender to receiver.
                - a numpy array or scipy sparse matrix `[n, n]`, used as the mixing matrix as it is; of float32
                  and float16, whose rows sum to 1 only about, it is scaled to sums of 1, which `notes` says.
                - a `Topology`, returned as it is.
                - a `GraphSchedule`, whose graphs of one period are weighed like any other; a list of graphs or of
                  matrices, one per round of a period; or a function of (t, clients, rng) that gives them, whose
                  attribute `period` says how many there are.
            clients: number of clients n >= 1. One client is [[1]] under any name.
            weights: metropolis (any graph), uniform (regular graphs), laplacian (undirected graphs) or samples
                (undirected graphs; keeps the mean weighted by `samples`), see `declora.topology.weigh`. Only for
                graphs: the other kinds bring their weights with them.
            seed: seed of the run; random graphs are a function of it.
            directed: whether a given matrix may be asymmetric. Names and graphs know it themselves.
            column_stochastic: build for push-sum, which takes any strongly connected digraph: in a graph each client
                splits its own evenly, 1 / (receivers + 1); a given matrix needs columns that sum to 1, no more.
                Time-varying names are doubly stochastic and stay as they are.
            samples: whole numbers `[n]`, how many samples each client has, for weights="samples".

        Raises:
            TopologyError: the topology does not exist for so many clients, needs more than all memory, is not
                connected, or a check fails.
        """
        from declora.topology.build import build_topology

        return build_topology(
            spec,
            clients,
            weights=weights,
            seed=seed,
            directed=directed,
            column_stochastic=column_stochastic,
            samples=samples,
        )

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """What each client is called where the graph calls it otherwise than by its number; long names are cut."""
        return None if self.nodes is None else tuple(cut(node, 60) for node in self.nodes)

    @property
    def period(self) -> int:
        """Returns the number of rounds after which the weights repeat; 1 where they never change."""
        return len(self.matrices)

    @cached_property
    def symmetric(self) -> bool:
        """Whether w_ij = w_ji in every round (within 1e-9)."""
        if not self.directed:
            return self.law is None
        return all(abs(matrix - matrix.T).max() <= TOLERANCE for matrix in self.matrices)

    @cached_property
    def slem(self) -> float:
        """Returns the second largest eigenvalue modulus of the mixing matrix: what a round leaves of disagreement.

        For a schedule, ||product over a period - J||_2 to the power 1/period, with J = all 1/n: the mean
        factor of a round; 0 where the period averages exactly. Computed on first use, by sparse solvers for
        many clients.
        """
        from declora.topology.spectrum import second_modulus

        if self.period == 1 and isinstance(graph := self.graphs[0], CompleteGraph):
            return graph.home if self.clients > 1 else 0.0
        reversible = self.symmetric if self.law is None else not self.directed
        return second_modulus(self.matrices, symmetric=reversible, law=self.law)

    @cached_property
    def least_eigenvalue(self) -> float:
        """Smallest eigenvalue of the mixing matrix, where there is one for all rounds, and it is symmetric."""
        from declora.topology.spectrum import largest_eigenvalue

        if self.period == 1 and isinstance(graph := self.graphs[0], CompleteGraph):
            return graph.home if self.clients > 1 else 1.0
        (matrix,) = self.matrices
        return 1.0 - largest_eigenvalue(csr_array(eye_array(self.clients) - matrix))

    @property
    def spectral_gap(self) -> float:
        """Returns 1 - slem: 1 agrees at once, 0 never."""
        return 1.0 - self.slem

    def plot(self) -> "Figure":
        """Returns a figure of who talks to whom; `declora.topology.plot` draws on axes of yours."""
        from matplotlib.figure import Figure

        from declora.topology.drawing import plot

        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        plot(self, figure.subplots())
        return displayed(figure)

    def __repr__(self) -> str:
        """What it is, in one line."""
        clients = f"{self.clients:,} client{'s' * (self.clients != 1)}"
        period = f", {self.period} rounds a period" if self.period > 1 else ""
        return f"<Topology: {self.name}, {clients}{period}, {self.messages(0):,} messages in the first round>"

    def _repr_html_(self) -> str:
        from declora.topology.summary import facts

        return facts_html(f"Topology: {self.name}, {self.clients:,} clients", facts(self))

    def check_pairs(self) -> None:
        """Raises `TopologyError` where a weight for each pair of clients that talk does not fit memory."""
        if any(isinstance(graph, CompleteGraph) for graph in self.graphs):
            check_dense(self.name, self.clients)

    def round(self, t: int) -> RoundGraph:
        """Returns who hears whom in round t (counted from 0), with which weights."""
        return self.graphs[t % self.period]

    def weights(self, t: int) -> csr_array:
        """Returns the mixing matrix of round t (counted from 0)."""
        return self.round(t).weights

    def neighbours(self, t: int, i: int) -> list[int]:
        """Returns the clients whose values client i receives in round t, ascending, without i itself."""
        if not 0 <= i < self.clients:
            raise TopologyError(f"client i={i} is not in topology={self.name!r}; clients are 0..{self.clients - 1}.")
        neighbours: list[int] = self.round(t).senders(i).tolist()
        return neighbours

    def edges(self, t: int) -> NDArray[np.int32]:
        """Returns the messages (sender, receiver) of round t, int32 `[E, 2]`, sorted; an undirected edge gives two."""
        return self.round(t).edges

    def messages(self, t: int) -> int:
        """Returns how many messages round t sends: its directed edges."""
        return self.round(t).messages

    def graph(self, t: int = 0) -> "nx.Graph[Any]":
        """Returns the graph of round t on nodes 0..n-1 with edge attribute `weight`, without self loops.

        A `Graph` where the weights are symmetric, else a `DiGraph` with edges from sender to receiver.
        """
        import networkx as nx

        graph: nx.Graph[Any] = nx.Graph() if self.symmetric else nx.DiGraph()
        graph.add_nodes_from(range(self.clients))
        matrix = self.weights(t).tocoo()
        receivers, senders = matrix.coords
        entries = zip(senders.tolist(), receivers.tolist(), matrix.data.tolist(), strict=True)
        graph.add_weighted_edges_from((j, i, weight) for j, i, weight in entries if i != j)
        return graph
