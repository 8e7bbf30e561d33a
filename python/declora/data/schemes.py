"""Divides rows over clients: labels and random numbers in, row indices out.

Every scheme that divides at random returns disjoint, non-empty shards that cover all rows (`by_proportions`
alone may leave rows out); where chance gives a client nothing, `fill_empty` says what happens.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Shards",
    "by_proportions",
    "by_value",
    "dirichlet",
    "fill_empty",
    "iid",
    "label_shards",
    "quantity",
]

Shards = list[NDArray[np.int64]]

_LARGEST_ALPHA = 1e300


def iid(rows: int, clients: int, rng: np.random.Generator) -> Shards:
    """Shuffles and cuts: sizes differ by at most one."""
    return np.array_split(rng.permutation(rows), clients)


def dirichlet(labels: NDArray[np.int64], clients: int, alpha: float, rng: np.random.Generator) -> Shards:
    """Gives each client a Dirichlet(alpha) share of every class.

    Hsu, Qi and Brown 2019 (arXiv:1909.06335), in the per-class form of Yurochkin et al. 2019
    (arXiv:1905.12022): for each class, shares over clients ~ Dir(alpha, ..., alpha). Large alpha approaches
    equal shares of each class, small alpha one client per class.
    """
    shards: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        for shard, piece in zip(shards, _cut(members, _dirichlet(clients, alpha, rng)), strict=True):
            shard.append(piece)
    return fill_empty([np.concatenate(shard) for shard in shards])


def quantity(rows: int, clients: int, alpha: float, rng: np.random.Generator) -> Shards:
    """Gives each client a Dirichlet(alpha) share of all shuffled rows: sizes differ, labels are iid."""
    return fill_empty(_cut(rng.permutation(rows), _dirichlet(clients, alpha, rng)))


def label_shards(labels: NDArray[np.int64], clients: int, per_client: int, rng: np.random.Generator) -> Shards:
    """Sorts by label, cuts into clients x per_client equal pieces and deals them out.

    McMahan et al. 2017 (arXiv:1602.05629), section 3. Rows of one class are shuffled first, so that their
    order in the source does not matter.
    """
    shuffled = rng.permutation(len(labels))
    pieces = np.array_split(shuffled[np.argsort(labels[shuffled], kind="stable")], clients * per_client)
    dealt = rng.permutation(clients * per_client).reshape(clients, per_client)
    return [np.concatenate([pieces[piece] for piece in hand]) for hand in dealt]


def by_proportions(
    labels: NDArray[np.int64], proportions: NDArray[np.float64], rng: np.random.Generator
) -> Shards | None:
    """Gives each client the stated share of each class, without replacement.

    All clients get the same number of rows, the largest for which no class runs out; the other rows are left out.
    Shares are rounded by largest remainder, so each client is within one row of its proportion in every class.

    Args:
        labels: Class indices `[rows]`.
        proportions: `[clients, classes]`, rows summing to one.
        rng: Draws the rows.

    Returns:
        The shards, or None if not even one row per client is possible.
    """
    available = np.bincount(labels, minlength=proportions.shape[1])
    demand = proportions.sum(axis=0)
    used = demand > 0
    size = int(np.floor(np.min(available[used] / demand[used]) + 1e-9))
    while size > 0 and np.any((counts := _largest_remainder(proportions, size)).sum(axis=0) > available):
        size -= 1
    if size == 0:
        return None
    pieces = []
    for label in range(proportions.shape[1]):
        members = rng.permutation(np.flatnonzero(labels == label))
        pieces.append(np.split(members, np.cumsum(counts[:, label])))
    return [np.concatenate([piece[client] for piece in pieces]) for client in range(len(proportions))]


def by_value(values: Sequence[object], clients: int) -> Shards:
    """Gives each distinct value to one client, so that rows with the same value stay together.

    As many values as clients: client i gets the i-th value in sorted order. More values: the largest group
    goes first, each to the client that has the fewest rows so far (ties: sorted value, lowest client).
    """
    groups: dict[object, list[int]] = {}
    for row, value in enumerate(values):
        groups.setdefault(value, []).append(row)
    ordered = [groups[value] for value in sorted(groups, key=lambda value: (str(type(value)), value))]
    shards: list[list[int]] = [[] for _ in range(clients)]
    if len(ordered) == clients:
        shards = ordered
    else:
        for group in sorted(ordered, key=len, reverse=True):
            min(shards, key=len).extend(group)
    return [np.array(shard, dtype=np.int64) for shard in shards]


def fill_empty(shards: Shards) -> Shards:
    """Gives each empty shard, in order, the last row of the shard that is then the largest (ties: the first)."""
    sizes = np.array([len(shard) for shard in shards])
    for empty in np.flatnonzero(sizes == 0):
        donor = int(np.argmax(sizes))
        shards[empty], shards[donor] = shards[donor][-1:], shards[donor][:-1]
        sizes[empty], sizes[donor] = 1, sizes[donor] - 1
    return shards


def _dirichlet(clients: int, alpha: float, rng: np.random.Generator) -> NDArray[np.float64]:
    # The sum of larger ones overflows; at this one, all shares are equal already.
    return rng.dirichlet(np.full(clients, min(alpha, _LARGEST_ALPHA)))


def _cut(members: NDArray[np.int64], shares: NDArray[np.float64]) -> Shards:
    """Cuts where the cumulative shares fall, rounded: each piece is within one row of its share."""
    cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
    return np.split(members, cuts)


def _largest_remainder(proportions: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Rounds `proportions * size` to whole rows that sum to `size` for each client."""
    exact = proportions * size
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, axis=1, kind="stable")  # largest remainder first
    for client, missing in enumerate(size - counts.sum(axis=1)):
        counts[client, order[client, :missing]] += 1
    return counts
