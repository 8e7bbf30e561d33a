"""Simulation: all clients are in this process, so a delivery copies nothing and only counts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from declora.exchange.base import Delivery, Exchange

__all__ = ["LocalExchange", "StarExchange"]


class LocalExchange(Exchange):
    """Every client sends its frame to each of its neighbours."""

    def deliver(
        self, frames: NDArray[np.uint8], sizes: NDArray[np.int64], edges: Sequence[tuple[int, int]]
    ) -> Delivery:
        """Returns the same frames; a client pays for each edge that leaves it."""
        senders = np.fromiter((sender for sender, _ in edges), dtype=np.int64, count=len(edges))
        messages = np.bincount(senders, minlength=len(frames))
        return Delivery(frames, messages * sizes)


class StarExchange(Exchange):
    """Every client sends its frame to one server, which sends the average back in a frame of the same size."""

    def deliver(
        self, frames: NDArray[np.uint8], sizes: NDArray[np.int64], edges: Sequence[tuple[int, int]]
    ) -> Delivery:
        """Returns the same frames; each client's link carries one frame up and one down."""
        return Delivery(frames, 2 * sizes)
