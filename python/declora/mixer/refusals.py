"""What becomes of the weight of messages that were refused or lost: it stays at home, on both ends of the edge."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.plan import Mask

__all__ = ["assumed_bad", "at_home", "keep_shares", "sit_out", "without"]


def at_home(weights: sp.csr_array, lost: NDArray[np.int32], *, to_sender: bool = False) -> sp.csr_array:
    """Returns the mixing matrix `[clients, clients]` without messages that did not arrive.

    Args:
        weights: The matrix.
        lost: The (sender, receiver) pairs of these messages, int32 `[L, 2]`.
        to_sender: Whether the weight of a message stays with its sender, as shares do (`keep_shares`), and not with its
            receiver. Of a symmetric matrix that is the same where both directions of an edge are lost.
    """
    if not len(lost):
        return weights
    entries = weights.tocoo()
    receivers, senders = entries.coords
    clients = weights.shape[0]
    numbers = senders.astype(np.int64) * clients + receivers
    missing = np.isin(numbers, lost[:, 0].astype(np.int64) * clients + lost[:, 1])
    return _moved(entries, missing, senders if to_sender else receivers)


def without(
    weights: sp.csr_array, edges: NDArray[np.int32], missing: Mask, *, least: int = 1, to_sender: bool = False
) -> sp.csr_array:
    """Returns the mixing matrix without messages that did not arrive; who has too few values left keeps its own.

    Args:
        weights: The matrix `[clients, clients]`.
        edges: The (sender, receiver) pairs of its messages, int32 `[E, 2]`.
        missing: Which of them did not arrive, `[E]`.
        least: How many values, a client's own among them, the rule that mixes them needs.
        to_sender: As for `at_home`.
    """
    weights = at_home(weights, edges[missing], to_sender=to_sender)
    if least > 1:
        few = np.diff(weights.indptr) < least
        weights = at_home(weights, edges[few[edges[:, 1]]])
    return weights


def sit_out(weights: sp.csr_array, refused: Mask | None) -> sp.csr_array:
    """Returns the mixing matrix without the edges from and to refused clients; each row's lost weight goes to self.

    Both directions go, so a symmetric doubly stochastic matrix stays one and the mean over clients is kept.
    """
    if refused is None or not refused.any():
        return weights
    entries = weights.tocoo()
    receivers, senders = entries.coords
    return _moved(entries, _lost(receivers, senders, refused), receivers)


def keep_shares(weights: sp.csr_array, refused: Mask | None) -> sp.csr_array:
    """Returns the column-stochastic matrix where refused clients have what they sent back: no mass is lost."""
    if refused is None or not refused.any():
        return weights
    entries = weights.tocoo()
    senders = entries.coords[1]
    return _moved(entries, refused[senders], senders)


def assumed_bad(f: int, weights: sp.csr_array, refused: Mask | None) -> NDArray[np.uint32]:
    """Returns how many of each client's remaining neighbours may be bad, uint32 `[clients]`.

    A refused neighbour was one of the `f`, so it need not be looked for among the rest. Of no neighbours nobody is
    bad: those of a client that sits out, or of one that only keeps what it has.
    """
    clients = weights.shape[0]
    receivers, senders = weights.tocoo().coords
    edges = receivers != senders
    lost = edges & _lost(receivers, senders, refused)
    bad = np.maximum(0, f - np.bincount(receivers[lost], minlength=clients))
    bad[np.bincount(receivers[edges & ~lost], minlength=clients) == 0] = 0
    return bad.astype(np.uint32)


def _lost(receivers: NDArray[np.int32], senders: NDArray[np.int32], refused: Mask | None) -> Mask:
    """Returns which entries have an end that was refused, on the diagonal, too: moved there, they stay."""
    return np.zeros(len(senders), dtype=np.bool_) if refused is None else refused[receivers] | refused[senders]


def _moved(entries: sp.coo_array, lost: Mask, owners: NDArray[np.int32]) -> sp.csr_array:
    """Returns the matrix with the `lost` entries moved to the diagonal of their `owners`."""
    receivers, senders = (np.where(lost, owners, index) for index in entries.coords)
    matrix = sp.csr_array((entries.data, (receivers, senders)), shape=entries.shape)  # sums what meets
    matrix.sort_indices()
    return matrix
