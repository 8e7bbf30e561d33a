"""Finds which client each node of somebody's graph is."""

import re
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from declora.errors import TopologyError, shown

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["in_order", "label_notes", "ordered_nodes"]

_SHOWN = 4
"""So many nodes are named where an order is said."""


def ordered_nodes(graph: "nx.Graph[Any] | Iterable[Hashable]") -> list[Hashable]:
    """Returns the nodes of `graph`, or these nodes, by client: client i is the i-th.

    Where all are whole numbers, or texts that spell them (as `networkx.read_edgelist` leaves them), they are in rising
    order; otherwise they are in the graph's own.

    Raises:
        TopologyError: Two nodes are the same number, or have the same name.
    """
    nodes: list[Hashable] = list(graph)
    numbers = [_number(node) for node in nodes]
    if any(number is None for number in numbers):
        called: dict[str, Hashable] = {}
        for node in nodes:
            if (name := " ".join(str(node).split())) in called:
                raise TopologyError(
                    f"topology='graph': nodes {shown(called[name])} and {shown(node)} are both called {shown(name)}; "
                    "give each client a name of its own."
                )
            called[name] = node
        return nodes
    by_number: dict[Any, Hashable] = {}
    for number, node in zip(numbers, nodes, strict=True):
        if number in by_number:
            raise TopologyError(
                f"topology='graph': nodes {shown(by_number[number])} and {shown(node)} are both number {number}; give "
                "each client one node."
            )
        by_number[number] = node
    return [by_number[number] for number in sorted(by_number)]


def in_order(nodes: Iterable[Hashable]) -> bool:
    """Returns whether `nodes` rise, as numbers or in their own order, so that nobody could number them otherwise."""
    nodes = list(nodes)
    numbers = [_number(node) for node in nodes]
    keys: list[Any] = nodes if any(number is None for number in numbers) else numbers
    try:
        return keys == sorted(keys)
    except TypeError:
        return False


def label_notes(nodes: list[Hashable]) -> tuple[str, ...]:
    """Returns what to say of the order of `nodes`: nothing where they are the numbers of the clients."""
    if [_number(node) for node in nodes] == list(range(len(nodes))):
        return ()
    first = ", ".join(f"{client} is {shown(node)}" for client, node in enumerate(nodes[:_SHOWN]))
    order = "in rising order" if all(_number(node) is not None for node in nodes) else "in the graph's own order"
    more = ", ..." if len(nodes) > _SHOWN else ""
    return (
        f"The nodes of the graph are not numbered 0 to {len(nodes) - 1}; clients are its nodes {order}: {first}{more}.",
    )


def _number(node: Hashable) -> int | None:
    """Returns the whole number that a node is or spells, None where it is or spells none."""
    if isinstance(node, str):
        return int(node) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", node, re.ASCII) else None
    if isinstance(node, bool | np.bool_):
        return None
    if isinstance(node, int | np.integer):
        return int(node)
    return int(node) if isinstance(node, float | np.floating) and float(node).is_integer() else None
