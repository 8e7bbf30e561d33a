"""Whether every client of a graph has neighbours enough for a robust rule."""

import numpy as np

from declora.errors import ConfigError
from declora.topology import Topology

__all__ = ["check_values"]


def check_values(mixer: str, topology: Topology, need: int, why: str, *, otherwise: str) -> None:
    """Raises `ConfigError` where a client has fewer than `need` values, its own and its neighbours', in some round.

    Args:
        mixer: The mixer as the settings write it.
        topology: The graph; every round of its period is checked. A single client has nothing to mix.
        need: Values that the rule needs.
        why: The formula of `need`, in words.
        otherwise: The fix beside a denser graph.
    """
    if topology.clients == 1:
        return
    for t, graph in enumerate(topology.graphs):
        values = graph.degrees + 1
        client = int(np.argmin(values))
        if values[client] >= need:
            continue
        when = f" in round {t} of every {topology.period}" if topology.period > 1 else ""
        count = int(values[client]) - 1
        denser = f"a graph with at least {need - 1} neighbours everywhere, e.g. random-regular:{need - 1} or complete"
        raise ConfigError(
            f"mixer={mixer!r} needs {need} values at each client ({why}), its own and {need - 1} neighbours', but in "
            f"topology={topology.name!r} client {client} has {count} neighbour{'s' * (count != 1)}{when}. Use {denser}"
            f"{f', or {otherwise}' * bool(otherwise)}."
        )
