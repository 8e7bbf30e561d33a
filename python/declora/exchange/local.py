"""Simulation: all clients are in this process, so a delivery copies nothing and only counts."""

import numpy as np
from numpy.typing import NDArray

from declora.exchange.base import Delivery, Exchange
from declora.round_graph import Audience

__all__ = ["LocalExchange", "StarExchange"]


class LocalExchange(Exchange):
    """Every client sends its frame to each of its neighbours."""

    def deliver(
        self,
        frames: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        audience: Audience,
        beside: NDArray[np.float64] | None = None,
    ) -> Delivery:
        """Returns the same frames; a client pays for what leaves it."""
        return Delivery(frames, self.spent(sizes, audience))


class StarExchange(LocalExchange):
    """Every client sends its frame to one server, which sends the average back in a frame of the same size."""

    served = True

    def spent(self, sizes: NDArray[np.int64], audience: Audience) -> NDArray[np.int64]:
        """Returns the sizes twice: each client's link carries one frame up and one down."""
        return 2 * sizes
