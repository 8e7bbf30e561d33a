"""Reads names of topologies with their parameters: `"watts-strogatz:4:0.1"` is a name and two numbers."""

from dataclasses import dataclass

from declora.errors import TopologyError, shown, unknown_name

__all__ = ["TOPOLOGIES", "Parameter", "TopologyName", "parse_name"]


_MOST = 2**31 - 1
"""No parameter is larger: it counts clients, of which there are fewer."""


@dataclass(frozen=True)
class Parameter:
    """Describes one number in a name, as D in `random-regular:D`."""

    symbol: str
    default: int | float
    low: float
    high: float = float("inf")

    @property
    def range(self) -> str:
        """Returns the allowed values, in words."""
        kind = "an integer" if isinstance(self.default, int) else "a number"
        return f"{kind} >= {self.low:g}" if self.high == float("inf") else f"{kind} in {self.low:g}..{self.high:g}"

    def parse(self, text: str) -> int | float:
        """Returns the number that `text` spells; `ValueError` where it is none or is out of range."""
        value = int(text) if isinstance(self.default, int) else float(text)
        if not self.low <= value <= min(self.high, _MOST):
            raise ValueError(text)
        return value


TOPOLOGIES: dict[str, tuple[Parameter, ...]] = {
    "ring": (),
    "torus": (),
    "path": (),
    "star": (),
    "complete": (),
    "hypercube": (),
    "random-regular": (Parameter("D", 4, 1),),
    "erdos-renyi": (Parameter("P", 0.5, 0.0, 1.0),),
    "watts-strogatz": (Parameter("K", 4, 2), Parameter("P", 0.1, 0.0, 1.0)),
    "exponential": (),
    "one-peer-exponential": (),
    "base": (Parameter("K", 1, 1),),
}
"""Every known name with its parameters, whose defaults stand in for those left out."""


@dataclass(frozen=True)
class TopologyName:
    """Holds a parsed name: `str()` gives it back with every parameter written out."""

    name: str
    parameters: tuple[int | float, ...]

    def __str__(self) -> str:
        return ":".join([self.name, *map(str, self.parameters)])


def parse_name(spec: str) -> TopologyName:
    """Returns the name and the parameters in `spec`, e.g. `"erdos-renyi:0.3"`.

    Raises:
        TopologyError: the name is unknown (the nearest one is shown), or a parameter is not the number it
            should be, or there are more parameters than the name has.
    """
    name, *texts = spec.split(":")
    if name not in TOPOLOGIES:
        raise TopologyError(str(unknown_name("topology", name, TOPOLOGIES)))
    parameters = TOPOLOGIES[name]
    form = ":".join([name, *(parameter.symbol for parameter in parameters)])
    if len(texts) > len(parameters):
        raise TopologyError(f"topology={shown(spec)} has {len(texts)} parameters after the name; write it as {form}.")
    values = [parameter.default for parameter in parameters]
    for position, (parameter, text) in enumerate(zip(parameters, texts, strict=False)):
        try:
            values[position] = parameter.parse(text)
        except ValueError:
            raise TopologyError(
                f"topology={shown(spec)}: {parameter.symbol}={shown(text)} must be {parameter.range}; write it as "
                f"{form}, for example {TopologyName(name, tuple(p.default for p in parameters))}."
            ) from None
    return TopologyName(name, tuple(values))
