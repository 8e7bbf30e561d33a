"""Methods: what is trained, what is sent, what is combined, and what comes back into the adapter."""

from declora.errors import ConfigError
from declora.methods.alternating import AdfLora, RoLora, TadLora
from declora.methods.centralized import Centralized
from declora.methods.d2 import D2
from declora.methods.dec_lora import DecLora
from declora.methods.fedavg import FedAvg
from declora.methods.ffa_lora import FfaLora
from declora.methods.local import Local
from declora.methods.part import Part, Step
from declora.methods.stack import Stack
from declora.methods.tracking import GradientTracking
from declora.spec import parse_spec

__all__ = ["METHODS", "Part", "Stack", "Step", "build_method"]

METHODS: dict[str, type[Part]] = {
    part.name: part
    for part in (DecLora, Centralized, FedAvg, Local, FfaLora, AdfLora, TadLora, RoLora, GradientTracking, D2)
}
"""Every part that settings can name."""


def build_method(method: str | Part | Stack) -> Stack:
    """Returns the method that a text names, `PART[:OPTION=NUMBER,...][+PART...]`, or that one part or a stack is.

    Raises:
        ConfigError: A name or option is not known, with the nearest match, or the parts do not fit each other.
    """
    if isinstance(method, Stack):
        return method
    if isinstance(method, Part):
        return Stack([method])
    known = {name: part.options for name, part in METHODS.items()}
    parts = []
    for text in method.split("+"):
        if not text:
            raise ConfigError(f"method={method!r} has nothing beside a '+'. Name a part there, or leave it out.")
        name, options = parse_spec("method", text, known)
        parts.append(METHODS[name](**options))
    return Stack(parts)
