"""Checks that a topology fits memory before it is built, by estimates that are rather too low."""

import math
from collections.abc import Callable

from declora import process
from declora.errors import TopologyError
from declora.topology.names import TopologyName

__all__ = ["check_dense", "check_fits"]

_BYTES_PER_PAIR = 20
"""What a weight of everybody for everybody takes: 12 in the matrix, 8 as a message (measured: 20)."""
_BYTES_PER_WEIGHT = 56
"""What a weight of a schedule takes while its matrix is made, checked and its spectral gap computed."""
_BYTES_PER_LINK = 60
"""What a link takes on its way to there, once in each direction (measured: 60 to 92)."""
_BYTES_PER_DRAWN_LINK = 180
"""The same in a graph object of networkx, which draws it (measured: 190 to 540)."""


def check_fits(name: TopologyName, clients: int) -> None:
    """Raises `TopologyError` where the graph or the schedule `name` needs more than all memory of the machine."""
    if name.name == "complete":
        return  # all apply the same weights; who needs one for each pair of clients checks that these fit
    links = math.ceil(clients * min(_LINKS[name.name](name.parameters, clients), clients - 1))
    each = _BYTES_PER_WEIGHT if name.name in _SCHEDULES else _BYTES_PER_LINK
    _check(str(name), clients, links * (_BYTES_PER_DRAWN_LINK if name.name in _DRAWN else each))


def check_dense(name: str, clients: int) -> None:
    """Raises `TopologyError` where `clients` x `clients` weights need more than all memory of the machine."""
    without = (
        "what needs no weight for each pair (mixer='linear', and no faults, attack, detect, clock or method that "
        "combines messages by itself), "
    )
    _check(name, clients, clients**2 * _BYTES_PER_PAIR, without)


def _check(name: str, clients: int, size: int, otherwise: str = "") -> None:
    memory = process.memory()
    if size > memory:
        raise TopologyError(
            f"topology={name!r} of {clients:,} clients needs {size:,} bytes ({size / 1e9:,.1f} GB) or more; this "
            f"machine has {memory / 1e9:,.1f} GB. Use fewer clients, {otherwise}or a graph with fewer links, such as "
            "ring or exponential."
        )


def _hops(parameters: tuple[int | float, ...], clients: int) -> float:
    return (clients - 1).bit_length()


_SCHEDULES = {"one-peer-exponential", "base"}
_DRAWN = {"random-regular", "erdos-renyi", "watts-strogatz"}
_LINKS: dict[str, Callable[[tuple[int | float, ...], int], float]] = {
    "ring": lambda parameters, clients: 2,
    "torus": lambda parameters, clients: 4,
    "path": lambda parameters, clients: 2,
    "star": lambda parameters, clients: 2,
    "hypercube": _hops,
    "random-regular": lambda parameters, clients: parameters[0],
    "erdos-renyi": lambda parameters, clients: parameters[0] * (clients - 1),
    "watts-strogatz": lambda parameters, clients: parameters[0],
    "exponential": _hops,
    "one-peer-exponential": _hops,
    "base": lambda parameters, clients: parameters[0],
}
"""How many links a client has, on average; of a schedule, in the rounds of a period together, at least."""
