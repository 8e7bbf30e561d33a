"""Methods: what is trained, what is sent, and what comes back into the adapter."""

from declora.errors import unknown_name
from declora.methods.base import Federation, Method
from declora.methods.centralized import Centralized
from declora.methods.dec_lora import DecLora
from declora.methods.fedavg import FedAvg
from declora.methods.local import Local

__all__ = ["METHODS", "Centralized", "DecLora", "FedAvg", "Federation", "Local", "Method", "build_method"]

METHODS: dict[str, type[Method]] = {method.name: method for method in (DecLora, Centralized, FedAvg, Local)}


def build_method(name: str) -> Method:
    """Returns the method of that name.

    Raises:
        ConfigError: The name is not known; the message has the nearest match and the list.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]()
