"""What the card of an adapter says of its run."""

from collections.abc import Mapping

from declora.config import SimulationConfig
from declora.federation import Federation
from declora.methods import build_method

__all__ = ["how_trained", "versions"]

_VERSIONS = ("declora", "peft", "transformers", "torch")


def how_trained(config: SimulationConfig, federation: Federation, local_work: str) -> dict[str, str]:
    """Returns how a run trained its adapters, by name.

    Args:
        config: Its settings.
        federation: Which ran.
        local_work: Of a round, in words.
    """
    messages = {
        "graph": federation.topology.name,
        "codec of messages": federation.codec.name,
        "mixer": str(federation.mixer),
    }
    return {
        "method": str(build_method(config.method)),
        "clients": f"{federation.clients:,}",
        **({} if federation.exchange.silent else messages),
        "rounds": f"{config.rounds:,}, each of {local_work} with batches of {federation.batch_size}",
        "seed": str(config.seed),
    }


def versions(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions of what an adapter depends on, as one fact; nothing where they are not known."""
    known = [f"{name} {environment[name]}" for name in _VERSIONS if name in environment]
    return {"versions": ", ".join(known)} if known else {}
