"""Who hears whom in a round, and with which weights; what is as large as all pairs is made when somebody reads it."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["Audience", "CompleteGraph", "Matrices", "RoundGraph"]


class Audience:
    """Who hears each message of a round; pairs are listed when somebody reads them.

    Args:
        listed: Returns `pairs`.
        counts: int64 `[messages]`, how many hear each.
    """

    def __init__(self, listed: Callable[[], NDArray[np.int32]], counts: NDArray[np.int64]) -> None:
        self._listed, self.counts = listed, counts

    @classmethod
    def of(cls, pairs: NDArray[np.int32], messages: int) -> "Audience":
        """Returns that of so many messages, (message, receiver) of each `pairs [E, 2]`."""
        return cls(lambda: pairs, np.bincount(pairs[:, 0], minlength=messages))

    @cached_property
    def pairs(self) -> NDArray[np.int32]:
        """int32 `[E, 2]`, (message, receiver) of each."""
        return self._listed()

    def among(self, clients: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns how many of `clients`, bool `[clients]`, hear each message, int64 `[messages]`."""
        return np.bincount(self.pairs[clients[self.pairs[:, 1]], 0], minlength=len(self.counts))


class _Everybody(Audience):
    """All others hear each client's message."""

    def among(self, clients: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns how many of `clients` hear each message: all but its sender."""
        found: NDArray[np.int64] = clients.sum() - clients.astype(np.int64)
        return found


class RoundGraph:
    """The graph of a round: a mixing matrix, and the messages that it needs.

    Args:
        weights: float64 `[clients, messages]`, sorted CSR; row i is what client i applies. Message i is client i's.
        edges: (sender, receiver) of each message where these are not those of `weights`: of messages that are lost it
            has nothing.
    """

    def __init__(self, weights: sp.csr_array, edges: NDArray[np.int32] | None = None) -> None:
        self._weights, self._tried = weights, edges

    @property
    def weights(self) -> sp.csr_array:
        """The mixing matrix."""
        return self._weights

    @property
    def clients(self) -> int:
        """How many clients mix."""
        return int(self.weights.shape[0])

    @cached_property
    def edges(self) -> NDArray[np.int32]:
        """(sender, receiver) of each message, int32 `[E, 2]`, sorted, read-only."""
        return _edges_of(self.weights) if self._tried is None else self._tried

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return int(self.weights.nnz - np.count_nonzero(self.own)) if self._tried is None else len(self._tried)

    @property
    def audience(self) -> Audience:
        """Who hears each client's message."""
        return Audience.of(self.edges, self.clients)

    def receivers(self, client: int) -> NDArray[np.int32]:
        """Returns who hears a client, rising, int32 `[n]`."""
        receivers: NDArray[np.int32] = self.edges[self.edges[:, 0] == client, 1]
        return receivers

    def senders(self, client: int) -> NDArray[np.int32]:
        """Returns whom a client hears, rising, int32 `[n]`."""
        row: NDArray[np.int32] = self.weights.indices[self.weights.indptr[client] : self.weights.indptr[client + 1]]
        others: NDArray[np.int32] = row[row != client]
        return others

    @cached_property
    def degrees(self) -> NDArray[np.int64]:
        """int64 `[clients]`, how many others each client hears."""
        degrees: NDArray[np.int64] = np.diff(self.weights.indptr).astype(np.int64) - (self.own != 0)
        return degrees

    @property
    def own(self) -> NDArray[np.float64]:
        """`[clients]`, the weight that each gives to its own."""
        return self.weights.diagonal()

    @property
    def values(self) -> NDArray[np.float64]:
        """The weights that there are, each once, rising."""
        return np.unique(self.weights.data)

    @property
    def parts(self) -> tuple[NDArray[np.generic], ...]:
        """The arrays that the matrix is made of."""
        return self.weights.indptr, self.weights.indices, self.weights.data


class CompleteGraph(RoundGraph):
    """The graph on which everybody hears everybody, and all apply the same row: W = 1 row^T + home I.

    Args:
        row: float64 `[clients]`, not negative: what each client's values count, for everybody and for itself.
        home: What each keeps for itself besides; the row sums to 1 with it.
        entries: Returns the mixing matrix, for what needs its entries.
    """

    def __init__(self, row: NDArray[np.float64], home: float, entries: Callable[[], sp.csr_array]) -> None:
        self.row, self.home, self._entries = row, home, entries
        self._tried = None

    def averages(self, clients: int, law: NDArray[np.float64] | None) -> bool:
        """Returns whether it is of so many clients, and keeps the mean weighted by `law`, the plain one where None."""
        kept = np.full(clients, 1.0 / clients) if law is None else law
        return self.row.shape == kept.shape and bool(np.allclose(self.row, (1.0 - self.home) * kept, rtol=0, atol=1e-9))

    def without(self, gone: NDArray[np.bool_], entries: Callable[[], sp.csr_array]) -> "CompleteGraph":
        """Returns the graph on which nobody hears those who are `gone`, bool `[clients]`: their weights stay at home.

        Args:
            gone: Who; what they do themselves is no matter.
            entries: Returns the mixing matrix of the others.
        """
        return CompleteGraph(np.where(gone, 0.0, self.row), self.home + float(self.row[gone].sum()), entries)

    @cached_property
    def _weights(self) -> sp.csr_array:  # type: ignore[override]
        return self._entries()

    @property
    def clients(self) -> int:
        """How many clients mix."""
        return len(self.row)

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return self.clients * (self.clients - 1)

    @property
    def audience(self) -> Audience:
        """Who hears each client's message."""
        return _Everybody(lambda: self.edges, np.full(self.clients, self.clients - 1, dtype=np.int64))

    def receivers(self, client: int) -> NDArray[np.int32]:
        """Returns who hears a client: all others."""
        return np.delete(np.arange(self.clients, dtype=np.int32), client)

    senders = receivers

    @cached_property
    def degrees(self) -> NDArray[np.int64]:
        """How many others each client hears."""
        return np.full(self.clients, self.clients - 1, dtype=np.int64)

    @property
    def own(self) -> NDArray[np.float64]:
        """The weight that each gives to its own."""
        return self.row + self.home

    @property
    def values(self) -> NDArray[np.float64]:
        """The weights that there are, each once, rising."""
        return np.unique(np.r_[self.row if self.clients > 1 else [], self.own])

    @property
    def parts(self) -> tuple[NDArray[np.generic], ...]:
        """What the matrix is made of."""
        return self.row, np.array(self.home)


class Matrices(Sequence[sp.csr_array]):
    """The mixing matrices of graphs, as a tuple has them; each is made when it is read."""

    def __init__(self, graphs: Sequence[RoundGraph]) -> None:
        self.graphs = tuple(graphs)

    def __len__(self) -> int:
        return len(self.graphs)

    def __add__(self, others: Sequence[sp.csr_array]) -> tuple[sp.csr_array, ...]:
        return (*self, *others)

    def __radd__(self, others: Sequence[sp.csr_array]) -> tuple[sp.csr_array, ...]:
        return (*others, *self)

    def __repr__(self) -> str:
        """How many there are, of how many clients."""
        return f"<Matrices: {len(self)} of {self.graphs[0].clients:,} clients>"

    @overload
    def __getitem__(self, at: int) -> sp.csr_array: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[sp.csr_array, ...]: ...
    def __getitem__(self, at: int | slice) -> sp.csr_array | tuple[sp.csr_array, ...]:
        """Returns that of a round, or those of some."""
        return tuple(graph.weights for graph in self.graphs[at]) if isinstance(at, slice) else self.graphs[at].weights

    def __iter__(self) -> Iterator[sp.csr_array]:
        return (graph.weights for graph in self.graphs)


def _edges_of(weights: sp.csr_array) -> NDArray[np.int32]:
    """Returns the messages (sender, receiver) that a mixing matrix needs, int32 `[E, 2]`, sorted, read-only."""
    clients = weights.shape[0]
    if clients > 1 and weights.shape[1] == clients and weights.nnz == clients**2:
        # The entries in their order are those of a square, in place.
        pairs: NDArray[np.int32] = np.empty((clients * (clients - 1), 2), dtype=np.int32)
        pairs.reshape(clients, clients - 1, 2)[:, :, 0] = np.arange(clients, dtype=np.int32)[:, None]
        beside = weights.indices[1:].reshape(clients - 1, clients + 1)[:, :-1]  # the diagonal is each first of n + 1
        pairs.reshape(clients - 1, clients, 2)[:, :, 1] = beside
    else:
        present = np.ones(weights.nnz, dtype=np.int8)  # a copy by columns of the weights themselves would be larger
        by_sender = sp.csr_array((present, weights.indices, weights.indptr), shape=weights.shape).tocsc()
        senders = np.repeat(np.arange(clients, dtype=np.int32), np.diff(by_sender.indptr))
        others = senders != by_sender.indices
        pairs = np.stack([senders[others], by_sender.indices[others]], axis=1, dtype=np.int32)
    pairs.flags.writeable = False
    return pairs
