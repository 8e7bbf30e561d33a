"""Says who talks to whom in round t, and with which weights: graphs, mixing matrices, schedules."""

from declora.topology.build import server
from declora.topology.given import GraphSchedule, as_schedule
from declora.topology.labels import in_order
from declora.topology.names import TOPOLOGIES
from declora.topology.summary import describe
from declora.topology.topology import Topology
from declora.topology.weights import WEIGHT_RULES, adjacency, weigh

__all__ = [
    "TOPOLOGIES",
    "WEIGHT_RULES",
    "GraphSchedule",
    "Topology",
    "adjacency",
    "as_schedule",
    "describe",
    "in_order",
    "plot",
    "server",
    "weigh",
]


def __getattr__(name: str) -> object:
    # matplotlib is loaded by those who draw.
    if name == "plot":
        from declora.topology.drawing import plot

        return plot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
