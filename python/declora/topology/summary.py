"""Describes a topology in words and numbers, as `declora topology` prints it."""

import math

import numpy as np

from declora.topology.topology import Topology

__all__ = ["describe", "facts"]

_SHOWN = 16
"""Up to so many clients the weights are written out."""


def describe(topology: Topology, *, payload_bytes: int | None = None) -> str:
    """Returns a few lines about `topology`: links, degrees, spectral gap, messages a round, weights.

    Args:
        topology: what to describe.
        payload_bytes: bytes of one message as it travels; adds what a round costs.
    """
    lines = [f"{topology.name}, {topology.clients} client{'s' * (topology.clients != 1)}", ""]
    lines += [f"  {label:<15} {text}" for label, text in facts(topology, payload_bytes).items()]
    lines += ["", *_weights(topology)]
    return "\n".join(lines)


def facts(topology: Topology, payload_bytes: int | None = None) -> dict[str, str]:
    """Returns what is worth knowing of `topology`, by name.

    Args:
        topology: what to describe.
        payload_bytes: bytes of one message as it travels; adds what a round costs.
    """
    rounds = range(topology.period)
    graphs = topology.graphs
    degrees = np.concatenate([graph.degrees for graph in graphs])
    messages = [topology.messages(t) for t in rounds]
    period = "1 round (the same graph in every round)" if topology.period == 1 else f"{topology.period} rounds"
    found = {
        "links": "directed" if topology.directed and not topology.symmetric else "undirected",
        "period": period,
        "degree": _range(degrees.tolist(), "a round" if topology.period > 1 else ""),
        "self weight": _range([value for graph in graphs for value in graph.own.tolist()]),
        "slem": f"{topology.slem:.6g}",
        "spectral gap": f"{topology.spectral_gap:.6g}",
        "disagreement": _decay(topology),
        "messages": _range(messages, "a round"),
    }
    if topology.law is not None:
        found["mean kept"] = f"weighted, a client counts {_range(topology.law.tolist())}"
    if payload_bytes is not None:
        mean = sum(messages) / len(messages) * payload_bytes
        cost = f"{_bytes(mean)} a round, {_bytes(payload_bytes)} a message"
        found["traffic"] = cost + (" (mean over the period)" if len(set(messages)) > 1 else "")
    return found


def _range(values: list[float] | list[int], unit: str = "") -> str:
    low, high = min(values), max(values)
    text = f"{low:,.6g}" if math.isclose(low, high, abs_tol=1e-9) else f"{low:,.6g} to {high:,.6g}"
    return f"{text} {unit}".rstrip()


def _decay(topology: Topology) -> str:
    if topology.slem == 0.0:
        return f"gone after {topology.period} round{'s' * (topology.period != 1)}"
    return f"a tenth after {-math.log(10) / math.log(topology.slem):,.1f} rounds"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:.4g} B"


def _weights(topology: Topology) -> list[str]:
    if topology.clients > _SHOWN:
        parts = sorted({round(value, 6) for graph in topology.graphs for value in graph.values.tolist()})
        listed = ", ".join(f"{value:.4g}" for value in parts[:8]) + (", ..." if len(parts) > 8 else "")
        return [f"weights: {listed} (the matrix is shown up to {_SHOWN} clients)"]
    if topology.period == 1:
        return ["weights (row: receiver, column: sender)", *_table(topology)]
    arrow = "-" if topology.symmetric else ">"
    return ["weights, by round of the period", *(_round(topology, t, arrow) for t in range(topology.period))]


def _table(topology: Topology) -> list[str]:
    dense = topology.matrices[0].toarray()
    head = "       " + "".join(f"{j:>6}" for j in range(topology.clients))
    rows = [f"{i:>6} " + "".join(f"{v:>6.3f}" if v else "     ." for v in row) for i, row in enumerate(dense.tolist())]
    return [head, *rows]


def _round(topology: Topology, t: int, arrow: str) -> str:
    matrix = topology.weights(t)
    pairs = [
        f"{sender}{arrow}{receiver} {matrix[receiver, sender]:.3g}"
        for sender, receiver in topology.edges(t).tolist()
        if sender < receiver or not topology.symmetric
    ]
    return f"{t:>6}: " + (", ".join(pairs) or "no messages")
