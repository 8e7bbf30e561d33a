"""Schedules of graphs: of a class or a function of the user's, or a list of graphs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from declora.errors import TopologyError, shown
from declora.round_graph import Matrices
from declora.spec import spelled

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["GraphSchedule", "as_schedule"]


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


class _Function(GraphSchedule):
    """What a function gives for each round of a period."""

    def __init__(self, function: Callable[..., Any], period: int) -> None:
        self.function, self.period = function, period

    def graph(self, t: int, clients: int, rng: np.random.Generator) -> Any:
        return self.function(t, clients, rng)

    def __str__(self) -> str:
        return spelled(self.function)


class _Listed(GraphSchedule):
    """Graphs or matrices, one after the other."""

    def __init__(self, graphs: Sequence[Any]) -> None:
        self.graphs, self.period = graphs, len(graphs)

    def graph(self, t: int, clients: int, rng: np.random.Generator) -> Any:
        graph = self.graphs[t]
        return np.asarray(graph) if isinstance(graph, list | tuple) else graph

    def __str__(self) -> str:
        return f"list of {self.period}"


def as_schedule(spec: Any, *, rounds: int | None = None) -> Any:
    """Returns the schedule that a function, or a list of graphs or of matrices, is; anything else as it is.

    Args:
        spec: What somebody gave as a topology.
        rounds: The period of a function that has none of its own, as its attribute `period`.

    Raises:
        TopologyError: It is the class of a schedule, no object; or a function without a period;
            or a list of graphs with something else in it.
    """
    if isinstance(spec, type):
        raise TopologyError(f"topology={spec.__name__} is a class. Give an object of it, {spec.__name__}(...).")
    if isinstance(spec, Matrices):
        spec = tuple(spec)
    if isinstance(spec, list | tuple) and any(map(_is_whole, spec)):
        if strange := [item for item in spec if not _is_whole(item)]:
            raise TopologyError(
                f"topology={shown(spec)} has {shown(strange[0])}, which is no graph or matrix as others in the list."
            )
        return _Listed(spec)
    if isinstance(spec, GraphSchedule) or not callable(spec):
        return spec
    period = getattr(spec, "period", rounds)
    if period is None:
        raise TopologyError(
            f"topology={spelled(spec)!r} is a function, of which nobody knows after how many rounds it repeats. Set "
            f"{spelled(spec)}.period = ..., or derive from GraphSchedule."
        )
    return _Function(spec, period)


def _is_whole(item: Any) -> bool:
    """Whether an item of a list is a graph or a matrix by itself, no row of one."""
    return issparse(item) or hasattr(item, "adjacency") or _dimensions(item) == 2


def _dimensions(item: Any) -> int:
    try:
        return np.ndim(item)
    except ValueError:  # rows of several lengths
        return 0
