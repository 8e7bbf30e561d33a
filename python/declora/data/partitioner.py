"""Partitions that users write in Python: functions, and lists of rows."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from declora.errors import ConfigError, shown
from declora.spec import described, spelled

if TYPE_CHECKING:
    from declora.data.text_data import TextData

__all__ = ["Partitioner", "are_rows", "check_rows", "divide_by"]


@runtime_checkable
class Partitioner(Protocol):
    """Who has which training rows: a function, or an object with `__call__`, that goes to `simulate(partition=...)`."""

    def __call__(self, data: "TextData", clients: int, rng: np.random.Generator) -> Sequence[ArrayLike]:
        """Returns the rows of each client.

        Args:
            data: What is divided: `data.train` has the rows, `data.labels()` their classes, int64 `[rows]`, or None.
            clients: Number of clients n.
            rng: Of all draws, a function of the run's seed.

        Returns:
            n lists or arrays of whole numbers from 0..rows-1, in any order: none is empty, and no row is in two. Rows
            may be left out.
        """


def divide_by(
    partitioner: Callable[..., object], data: "TextData", clients: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Returns what a user's partitioner gives, checked.

    Raises:
        ConfigError: It is no partition.
    """
    where = f"partition={spelled(partitioner)!r}"
    if isinstance(partitioner, type):
        raise ConfigError(f"{where} is a class. Give an object of it, {partitioner.__name__}(...).")
    given = partitioner(data, clients, rng)
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise ConfigError(f"{where} gives {described(given)}; it must give the rows of each client, in a list.")
    return check_rows(where, given, clients, data.train.num_rows)


def are_rows(given: object, shape: tuple[int, int]) -> bool:
    """Returns whether a user's lists are of row numbers, not of label proportions.

    They are where all are whole numbers, but for one 1 and else 0 for each client and class: that gives each client one
    class, and as rows it would have row 0 at two clients.

    Args:
        given: What was given as a partition.
        shape: Number of clients and of classes.
    """
    if not isinstance(given, list | tuple | np.ndarray):
        return False
    try:
        lists = [np.asarray(one) for one in given]
    except ValueError:  # lists of several lengths
        return False
    empty = not any(one.size for one in lists)
    whole = not empty and all(one.ndim == 1 and (one.dtype.kind in "iub" or not one.size) for one in lists)
    if not whole or (len(lists), *{len(one) for one in lists}) != shape:
        return whole
    return not all(one.sum() == 1 and set(one.tolist()) <= {0, 1} for one in lists)


def check_rows(where: str, given: Iterable[object], clients: int, rows: int) -> list[NDArray[np.int64]]:
    """Returns the rows of each client, checked.

    Args:
        where: What errors begin with.
        given: Of each client, a list or array of whole numbers.
        clients: Number of clients.
        rows: Of the data.

    Raises:
        ConfigError: They are no partition.
    """
    shards = [_shard(f"{where}, client {client}", rows_of, rows) for client, rows_of in enumerate(given)]
    if len(shards) != clients:
        raise ConfigError(f"{where} gives the rows of {len(shards)} clients, but clients={clients}.")
    owner = np.full(rows, -1)
    for client, shard in enumerate(shards):
        if (owner[shard] >= 0).any():
            row = int(shard[owner[shard] >= 0][0])
            raise ConfigError(f"{where} gives row {row} to client {owner[row]} and to client {client}.")
        owner[shard] = client
    return shards


def _shard(where: str, given: object, rows: int) -> NDArray[np.int64]:
    """Returns the rows of one client."""
    try:
        shard = np.asarray(given)
    except ValueError:  # lists of several lengths
        raise ConfigError(f"{where}: the rows are {shown(given)}; they must be a list of whole numbers.") from None
    if shard.size == 0:
        raise ConfigError(f"{where} has no rows. Give each client at least one.")
    if shard.ndim != 1 or shard.dtype.kind not in "iu":
        mask = " (of a mask, numpy.flatnonzero(mask))" if shard.dtype.kind == "b" else ""
        raise ConfigError(f"{where}: the rows are {described(shard)}; they must be a list of whole numbers{mask}.")
    if shard.min() < 0 or shard.max() >= rows:
        row = int(shard.min() if shard.min() < 0 else shard.max())
        raise ConfigError(f"{where}: row {row} is none of the training rows 0..{rows - 1}.")
    values, counts = np.unique(shard, return_counts=True)
    if len(values) < len(shard):
        raise ConfigError(f"{where} has row {int(values[np.argmax(counts > 1)])} twice.")
    return shard.astype(np.int64)
