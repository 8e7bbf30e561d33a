"""A schedule of graphs from a class of the user's."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from declora.spec import spelled

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["GraphSchedule"]


class GraphSchedule(ABC):
    """Who talks to whom, a graph a round: derive from it and define `graph`; objects go to `simulate(topology=...)`.

    Rounds `t` and `t + period` have the same graph. That of a single round may leave clients alone, all of a period
    together may not.
    """

    period: int = 1
    """Number of rounds after which the graphs repeat."""

    @abstractmethod
    def graph(
        self, t: int, clients: int, rng: np.random.Generator
    ) -> "nx.Graph[Any] | NDArray[np.float64] | csr_array":
        """Returns the graph of round t, of which a run asks before it begins, and perhaps again: a function of these.

        Args:
            t: The round, 0 to period - 1.
            clients: Number of clients n.
            rng: Of all draws, a function of the run's seed and of t.

        Returns:
            A networkx graph whose nodes are clients, 0..n-1, of whom those left out talk to nobody: its edges get the
            mixing weights of the setting `weights`, and those of a DiGraph point from sender to receiver. Or a mixing
            matrix, numpy or scipy sparse `[n, n]`, as `Topology` takes it.
        """

    def __str__(self) -> str:
        """The class with its options."""
        return spelled(self)
