"""Which message goes along which edge: one of each client to all neighbours, unless it tells each something else."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["Routes"]


class Routes:
    """The messages of a round, who sends each, and who hears it.

    Message i < `clients` is what client i sends to all its neighbours. A client that tells its neighbours different
    things has one more message for each of them, which nobody else hears; honest clients have none of these, and then
    a message is a client.

    Args:
        clients: Number of clients.
        private: int32 `[P, 2]`, (sender, receiver) of message `clients + p`, sorted; none where None.
    """

    def __init__(self, clients: int, private: NDArray[np.int32] | None = None) -> None:
        self._clients = clients
        self._private = np.empty((0, 2), dtype=np.int32) if private is None else private
        self.senders = np.r_[np.arange(clients), self._private[:, 0]].astype(np.uint32)
        """uint32 `[messages]`, who sends each."""

    def edges(self, edges: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns the (message, receiver) pairs of a round whose (sender, receiver) pairs are `edges [E, 2]`."""
        if not len(self._private):
            return edges
        numbers, wanted = (
            pairs[:, 0].astype(np.int64) * self._clients + pairs[:, 1] for pairs in (self._private, edges)
        )
        at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
        messages = np.where(numbers[at] == wanted, self._clients + at, edges[:, 0])
        return np.stack([messages.astype(np.int32), edges[:, 1]], axis=1)

    def weights(self, weights: sp.csr_array) -> sp.csr_array:
        """Returns the matrix `[clients, messages]` in which a receiver gives a sender's weight to what it heard."""
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
        return rows if not len(self._private) else rows[self.senders]

    def by_client(self, values: NDArray[np.generic]) -> NDArray[np.int64]:
        """Returns the sums over each client's messages of `values [messages]`, whole numbers: int64 `[clients]`."""
        sums = values[: self._clients].astype(np.int64)
        np.add.at(sums, self._private[:, 0], values[self._clients :])
        return sums
