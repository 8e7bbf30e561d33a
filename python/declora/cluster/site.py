"""Which clients of a run a process has: some that follow each other."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from declora.errors import ConfigError

__all__ = ["Site", "divide", "hosts"]


@dataclass(frozen=True)
class Site:
    """Some clients of a run that follow each other, whose rows one process has."""

    start: int
    stop: int
    """The client after the last."""
    clients: int
    """Of the whole run."""

    @classmethod
    def whole(cls, clients: int) -> "Site":
        """Returns the only site of a run in one process."""
        return cls(0, clients, clients)

    @property
    def alone(self) -> bool:
        """Whether all clients are here."""
        return self.stop - self.start == self.clients

    @property
    def rows(self) -> slice:
        """Where these clients are among all."""
        return slice(self.start, self.stop)

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64 `[clients here]`, their numbers in the run."""
        return np.arange(self.start, self.stop, dtype=np.int64)


def divide(clients: int, ranks: int, *, group_size: int) -> list[Site]:
    """Divides clients over ranks, each whole groups, as evenly as that allows.

    What is computed of a client depends on its group in the last bits, but on nothing outside it: so whole groups give
    the bits that they give in one process.

    Args:
        clients: Of the run.
        ranks: Processes.
        group_size: Clients that are computed together.

    Raises:
        ConfigError: There are fewer groups than ranks.
    """
    groups = -(-clients // group_size)
    if groups < ranks:
        raise ConfigError(
            f"group_size={group_size}: {clients} clients are {groups} groups, too few for {ranks} ranks. Set "
            f"group_size={max(1, clients // ranks)}, or start fewer ranks."
            if clients >= ranks
            else f"clients={clients} are too few for {ranks} ranks. Start fewer, or set clients={ranks} or more."
        )
    edges = [min(groups * rank // ranks * group_size, clients) for rank in range(ranks + 1)]
    return [Site(start, stop, clients) for start, stop in itertools.pairwise(edges)]


def hosts(clients: int, ranks: int, *, group_size: int | None) -> list[Site]:
    """Divides clients over ranks before anything is computed, since each rank alone has the data of its clients.

    Args:
        clients: Of the run.
        ranks: Processes.
        group_size: Clients that are computed together, where that was said.

    Raises:
        ConfigError: There are too few clients, or groups.
    """
    return divide(clients, ranks, group_size=group_size or max(1, clients // ranks))
