"""FedAvg of LoRA (McMahan et al. 2017, arXiv 1602.05629): exact averaging through a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from declora.errors import ConfigError
from declora.methods.part import Part

if TYPE_CHECKING:
    from declora.federation import Federation

__all__ = ["FedAvg"]


class FedAvg(Part):
    """Every round ends with the exact average of all clients, uncompressed, up to a server and down again.

    Client k counts n_k / n, its share of the samples, as in the paper; with weights="uniform" all count the same. As a
    mixing matrix this is the complete graph with these weights in each row, so it is the same computation; only the
    links differ, two frames a client instead of n - 1. With a robust mixer the server applies its rule instead of the
    mean; one that counts all values alike (median, krum ...) has no use for samples.
    """

    name = "fedavg"
    source = "arXiv 1602.05629"
    over_graph = False
    sets_graph = True

    def arrange(self, federation: Federation) -> Federation:
        """Returns the complete graph over a star of links, without compression.

        Raises:
            ConfigError: A mixer that starts from each client's own value, which is not one result for all; an attack
                that tells each neighbour something else, where there is one server; weights that are for a graph.
        """
        rule = federation.weights or ("samples" if federation.mixer.weighted else "uniform")
        if rule not in ("samples", "uniform"):
            raise ConfigError(
                f"weights={rule!r} weighs the edges of a graph, but method='fedavg' has a server. Use "
                "weights='samples' (n_k / n) or weights='uniform' (1 / n); in a comparison give each run its own."
            )
        if federation.attack is not None and federation.attack.equivocates:
            raise ConfigError(
                f"attack={str(federation.attack)!r} tells each neighbour something else, but with method='fedavg' all "
                "tell one server. Use method='dec-lora', or another attack, e.g. sign-flip."
            )
        if federation.mixer.self_centred:
            raise ConfigError(
                f"mixer={str(federation.mixer)!r} starts from each client's own value, but with method='fedavg' one "
                "server sends all the same. Use a rule without a centre (median, trimmed-mean, krum), or dec-lora."
            )
        return federation.served(by_samples=rule == "samples")
