"""Which message goes along which edge: one of each client to all neighbours, unless it tells each something else."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.round_graph import Audience, CompleteGraph, RoundGraph

__all__ = ["Routes"]


class Routes:
    """The messages of a round, who sends each, and who hears it.

    Message i < `clients` is what client i sends to all its neighbours. A client that tells its neighbours different
    things has one more message for each of them, which nobody else hears; honest clients have none of these, and then
    a message is a client.

    Where a process has some clients of the run, it knows their messages and those that they hear, in the order of the
    clients: message i is then what known client i sends, and of the private ones those are known that clients here send
    or hear. Gossip is computed of all that are known; of those that are elsewhere nothing changes by it.

    Args:
        clients: Number of clients.
        private: int32 `[P, 2]`, (sender, receiver) of message `clients + p`, sorted; none where None.
        known: int64, rising: whose messages are known; None: all.
        own: Which of these clients are here; None: all.
    """

    def __init__(
        self,
        clients: int,
        private: NDArray[np.int32] | None = None,
        *,
        known: NDArray[np.int64] | None = None,
        own: slice | None = None,
    ) -> None:
        self._clients = clients
        self.whole = known is None
        """Whether all clients are here."""
        self.known = np.arange(clients) if known is None else known
        """int64, the clients whose messages are known."""
        self.own = slice(0, len(self.known)) if own is None else own
        """Which of these are here."""
        self._place = np.full(clients, -1, dtype=np.int32)
        self._place[self.known] = np.arange(len(self.known))
        pairs = np.empty((0, 2), dtype=np.int32) if private is None else private
        here = self.known[self.own]
        heard = np.flatnonzero(np.isin(pairs, here).any(axis=1))
        self._private = pairs[heard]
        self.said = np.r_[self.known, clients + heard]
        """`[messages]`, where each is among those of all clients, and behind them all private ones."""
        self.senders = np.r_[self.known, self._private[:, 0]].astype(np.uint32)
        """uint32 `[messages]`, who sends each."""
        self.places = np.r_[np.arange(len(self.known)), self._place[self._private[:, 0]]]
        """`[messages]`, the place among the known of who sends each."""
        first, stop = (len(self.known) + np.searchsorted(self._private[:, 0], [here[0], here[-1] + 1])).tolist()
        self.sent = (slice(0, len(self.senders)),) if self.whole else (self.own, slice(first, stop))
        """The messages that clients here send, some that follow each other and then some private ones."""

    def edges(self, edges: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns the (message, receiver) pairs of a round whose (sender, receiver) pairs are `edges [E, 2]`.

        Those of messages that are not known here are left out.
        """
        if self.whole and not len(self._private):
            return edges
        messages = self._place[edges[:, 0]]
        if len(self._private):
            numbers, wanted = (
                pairs[:, 0].astype(np.int64) * self._clients + pairs[:, 1] for pairs in (self._private, edges)
            )
            at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
            messages = np.where(numbers[at] == wanted, len(self.known) + at, messages).astype(np.int32)
        return np.stack([messages, edges[:, 1]], axis=1)[messages >= 0]

    def audience(self, graph: RoundGraph) -> Audience:
        """Returns who hears each message of a round of those that are known here."""
        if len(self.senders) == self._clients and not len(self._private):
            return graph.audience
        return Audience.of(self.edges(graph.edges), len(self.senders))

    def graph(self, graph: RoundGraph, *, shares: bool = False) -> RoundGraph:
        """Returns the graph `[clients, messages]` of a round as `weights` has it.

        One on which everybody hears everybody stays one where all clients' messages are known, and each has one.
        """
        if self.whole and not len(self._private):
            return graph
        if isinstance(graph, CompleteGraph) and len(self.senders) == self._clients:
            return CompleteGraph(graph.row, graph.home, lambda: self.weights(graph.weights, shares=shares))
        return RoundGraph(self.weights(graph.weights, shares=shares))

    def weights(self, weights: sp.csr_array, *, shares: bool = False) -> sp.csr_array:
        """Returns the matrix `[clients, messages]` in which a receiver gives a sender's weight to what it heard.

        Clients here may hear those that are known alone. Of known clients that are elsewhere, each hears itself.

        Args:
            weights: The mixing matrix of the round.
            shares: Whether its columns sum to 1, and what clients here give others counts, too. Of known clients that
                are elsewhere, each then keeps what it does not give to clients here.
        """
        if not self.whole:
            entries = weights[self.known][:, self.known].tocoo()
            receivers, senders = entries.coords
            ours = np.zeros(len(self.known), dtype=np.bool_)
            ours[self.own] = True
            here = ours[receivers] | ours[senders] if shares else ours[receivers]
            others, given = np.flatnonzero(~ours), np.zeros(len(ours))
            if shares:
                np.add.at(given, senders[here], entries.data[here])
            places = (np.r_[receivers[here], others], np.r_[senders[here], others])
            values = np.r_[entries.data[here], 1.0 - given[others]]
            if len(self._private):
                heard = self.edges(np.stack([self.known[place] for place in places[::-1]], axis=1).astype(np.int32))
                places = (places[0], heard[:, 0])
            matrix = sp.csr_array((values, places), shape=(len(self.known), len(self.senders)))
            matrix.sort_indices()
            return matrix
        if not len(self._private):
            return weights
        entries = weights.tocoo()
        receivers, senders = entries.coords
        heard = self.edges(np.stack([senders, receivers], axis=1))[:, 0]
        matrix = sp.csr_array((entries.data, (receivers, heard)), shape=(self._clients, len(self.senders)))
        matrix.sort_indices()
        return matrix

    def spread(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns each message's row, its sender's of `rows [clients, D]`: `rows` itself where none is private."""
        return rows if not len(self._private) else rows[self.places]

    def placed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Returns `rows [clients here, ...]` among those of all known clients, of which the others have zeros."""
        if self.whole:
            return rows
        found = np.zeros((len(self.known), *rows.shape[1:]), dtype=rows.dtype)
        found[self.own] = rows
        return found

    def here(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Returns those of clients here among `rows [known clients, ...]`."""
        return rows if self.whole else rows[self.own]

    @property
    def are_here(self) -> NDArray[np.bool_]:
        """Bool `[clients]`, who is here."""
        found = np.zeros(self._clients, dtype=np.bool_)
        found[self.here(self.known)] = True
        return found

    def places_here(self, clients: Iterable[int]) -> list[int]:
        """Returns the places among all known clients of those of `clients` who are here."""
        return [place for place in self._place[list(clients)].tolist() if self.own.start <= place < self.own.stop]

    def among_all(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns `values [known clients, ...]` among those of all clients, of which the others have zeros."""
        if self.whole:
            return values
        found = np.zeros((len(self._place), *values.shape[1:]), dtype=values.dtype)
        found[self.known] = values
        return found

    def meant(self, rows: NDArray[np.float32], public: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns what each message was to say: `rows [messages, D]` of clients here, of others what they did say."""
        if self.whole:
            return rows
        found = public.copy()
        for own in self.sent:
            found[own] = rows[own]
        return found

    def by_client(self, values: NDArray[np.generic]) -> NDArray[np.int64]:
        """Returns the sums over each client's messages of `values [messages]`, int64 `[clients here]`."""
        sums = values[: len(self.known)].astype(np.int64)
        np.add.at(sums, self.places[len(self.known) :], values[len(self.known) :])
        return sums[self.own]
