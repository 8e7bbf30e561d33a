"""Decides which client holds which training rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from declora.data.partition_specs import divide
from declora.data.text_data import TextData
from declora.errors import ConfigError, DataError, cut
from declora.notebook import table_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Partition", "kept_apart", "partition"]

_ELSEWHERE = np.int64(2**63 - 1)
"""Stands for a row on another host: an index that no array has."""


_SHOWN = 20
"""Of more clients or classes, a notebook shows so many."""


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """Holds the training rows of each client.

    Attributes:
        name: What it was made by, such as `"dirichlet:0.5"`.
        shards: Row indices into `TextData.train` by client, int64, ascending, read-only; of a client whose data is on
            another host only their number counts.
        counts: Rows by client (index) and class (columns, by name); the last column, `total`, is the client's
            rows (a class of that name is `'total'`, in quotes). Without labels there is only `total`.
    """

    name: str
    shards: tuple[NDArray[np.int64], ...]
    counts: pd.DataFrame

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the clients' rows by class as stacked horizontal bars; returns the axes, new ones if none are given."""
        from declora.data.partition_plot import plot_counts

        return plot_counts(self.name, self.counts, ax)

    def __repr__(self) -> str:
        """What it is, in one line."""
        sizes = [len(shard) for shard in self.shards]
        clients = f"{len(sizes):,} client{'s' * (len(sizes) != 1)}"
        return f"<Partition: {cut(self.name)}, {clients} of {min(sizes):,} to {max(sizes):,} rows>"

    def _repr_html_(self) -> str:
        shown = self.counts.iloc[:_SHOWN, -_SHOWN:]
        left_out = len(self.counts) - len(shown)
        title = repr(self)[1:-1] + (f" (the first {_SHOWN:,} clients)" if left_out else "")
        rows = [[client, *counts] for client, counts in zip(shown.index, shown.to_numpy().tolist(), strict=True)]
        return table_html(title, ["client", *shown.columns], rows)


def partition(spec: Any, data: TextData, clients: int, *, seed: int) -> Partition:
    """Divides the training rows over the clients.

    Shards are disjoint, none is empty, and together they hold every row (only label proportions, lists of rows, and
    partitioners of the user's own, leave rows out). Where a random draw leaves a client without rows, it gets one of
    the largest client's. The same arguments give the same shards.

    Args:
        spec: One of:
            `"iid"`: shuffled, sizes within one row;
            `"dirichlet:ALPHA"`: each class divided by Dirichlet(ALPHA) shares over the clients, smaller is
            more skewed;
            `"shards:S"`: S label-sorted shards per client (McMahan et al. 2017);
            `"quantity:ALPHA"`: sizes by Dirichlet(ALPHA), labels iid;
            `"labels:[[.15,.85],[.85,.15]]"`, or an array or list of lists: each client's label proportions,
            `[clients, classes]`, rows summing to one; all clients get equally many rows, as many as the
            scarcest class allows, the others are left out;
            a list with a list or array of whole numbers for each client: its rows, see `are_rows`;
            `"column:NAME"`: one client per value of a column, or whole values dealt out to balance the sizes
            where there are more values than clients;
            a partitioner of the user's own, a function or an object that is called, see `Partitioner`;
            `"natural"` or `"given"`: the data sets as the user gave them, one per client;
            None: natural where the data has one data set per client, else iid.
        data: What to divide.
        clients: Number of clients.
        seed: Of the random draws; `column` and `natural` have none.

    Raises:
        ConfigError: The spec is unknown or malformed, or does not fit the number of clients.
        DataError: The data cannot be divided like that.
    """
    if isinstance(clients, bool) or not isinstance(clients, int | np.integer) or clients < 1:
        raise ConfigError(f"clients={clients!r} must be a whole number of at least 1.")
    rows = data.train.num_rows
    if clients > rows:
        raise DataError(
            f"clients={clients} is more than the {rows} training rows. Use at most {rows} clients or more data."
        )
    if spec is None:
        spec = "iid" if data.shards is None else "natural"
    name, shards = divide(spec, data, int(clients), seed)
    ascending = tuple(np.sort(shard).astype(np.int64) for shard in shards)
    for shard in ascending:
        shard.setflags(write=False)
    return Partition(name, ascending, _counts(ascending, data))


def kept_apart(own: Sequence[NDArray[np.int64]], sizes: Sequence[int], *, first: int) -> Partition:
    """Returns the partition of data that stays where each client is, of whom some are here.

    Args:
        own: The rows of the clients here.
        sizes: How many rows each client has.
        first: The number of the first client here.
    """
    here = range(first, first + len(own))
    shards = tuple(
        own[client - first] if client in here else np.broadcast_to(_ELSEWHERE, size)
        for client, size in enumerate(sizes)
    )
    index = pd.RangeIndex(len(shards), name="client")
    return Partition("natural", shards, pd.DataFrame({"total": np.asarray(sizes, dtype=np.int64)}, index=index))


def _counts(shards: tuple[NDArray[np.int64], ...], data: TextData) -> pd.DataFrame:
    index = pd.RangeIndex(len(shards), name="client")
    total = np.array([len(shard) for shard in shards], dtype=np.int64)
    labels = data.labels()
    if labels is None:
        return pd.DataFrame({"total": total}, index=index)
    classes = len(data.label_names)
    table = np.stack([np.bincount(labels[shard], minlength=classes) for shard in shards])
    columns = ["'total'" if name == "total" else name for name in data.label_names]
    return pd.DataFrame(np.column_stack([table, total]), index=index, columns=[*columns, "total"])
