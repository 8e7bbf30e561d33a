"""No exchange: clients that never talk."""

import numpy as np
from numpy.typing import NDArray

from declora.exchange.base import Delivery, Exchange

__all__ = ["SilentExchange"]


class SilentExchange(Exchange):
    """Nobody sends anything, so there is nothing to mix."""

    silent = True

    def deliver(
        self,
        frames: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        edges: NDArray[np.int32],
        beside: NDArray[np.float64] | None = None,
    ) -> Delivery:
        """Returns the frames, which went nowhere."""
        return Delivery(frames, np.zeros(len(frames), dtype=np.int64))
