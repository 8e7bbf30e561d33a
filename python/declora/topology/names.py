"""Reads names of topologies with their parameters: `"watts-strogatz:4:0.1"` is a name and two numbers."""

from dataclasses import dataclass

from declora.errors import ConfigError, TopologyError
from declora.spec import Option, parse_spec

__all__ = ["TOPOLOGIES", "TopologyName", "check_spec", "is_file", "parse_name"]

_MOST = 2**31 - 1
"""No parameter is larger: it counts clients, of which there are fewer."""

TOPOLOGIES: dict[str, dict[str, Option]] = {
    "ring": {},
    "torus": {},
    "path": {},
    "star": {},
    "complete": {},
    "hypercube": {},
    "random-regular": {"d": Option(whole=True, least=1, most=_MOST, default=4)},
    "erdos-renyi": {"p": Option(whole=False, least=0, most=1, default=0.5)},
    "watts-strogatz": {
        "k": Option(whole=True, least=2, most=_MOST, default=4),
        "p": Option(whole=False, least=0, most=1, default=0.1),
    },
    "exponential": {},
    "one-peer-exponential": {},
    "base": {"k": Option(whole=True, least=1, most=_MOST, default=1)},
}
"""Every known name with its parameters."""


_FILES = (".csv", ".graphml", ".npy", ".npz")
"""How the names of files end that a topology may be read from."""


@dataclass(frozen=True)
class TopologyName:
    """Holds a parsed name: `str()` gives it back with every parameter written out."""

    name: str
    parameters: tuple[int | float, ...]

    def __str__(self) -> str:
        return ":".join([self.name, *map(str, self.parameters)])


def parse_name(spec: str) -> TopologyName:
    """Returns the name and the parameters in `spec`, e.g. `"erdos-renyi:0.3"` or `"watts-strogatz:k=6"`.

    Raises:
        TopologyError: The name or a parameter is unknown (the nearest one is shown), a parameter is not the number it
            should be, or there are more than the name has.
    """
    try:
        name, parameters = parse_spec("topology", spec, TOPOLOGIES)
    except ConfigError as error:
        raise TopologyError(str(error)) from None
    return TopologyName(name, tuple(parameters.values()))


def is_file(spec: object) -> bool:
    """Returns whether a topology is the name of a file, by its ending."""
    return isinstance(spec, str) and spec.lower().endswith(_FILES)


def check_spec(spec: str) -> None:
    """Checks that a text names a topology, or a file; what is in that is read later.

    Raises:
        TopologyError: As `parse_name`.
    """
    if not is_file(spec):
        parse_name(spec)
