"""Who talks to whom in round t, and with which weights: graphs, mixing matrices, schedules."""

from .names import TOPOLOGIES
from .summary import describe
from .topology import Topology
from .weights import WEIGHT_RULES, adjacency, weigh

__all__ = ["TOPOLOGIES", "WEIGHT_RULES", "Topology", "adjacency", "describe", "plot", "weigh"]


def __getattr__(name: str) -> object:
    # matplotlib is loaded by those who draw.
    if name == "plot":
        from .drawing import plot

        return plot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
