"""No exchange: clients that never talk."""

import numpy as np
from numpy.typing import NDArray

from declora.exchange.local import LocalExchange
from declora.round_graph import Audience

__all__ = ["SilentExchange"]


class SilentExchange(LocalExchange):
    """Nobody sends anything, so there is nothing to mix."""

    silent = True

    def spent(self, sizes: NDArray[np.int64], audience: Audience) -> NDArray[np.int64]:
        """Returns zeros: no frame goes anywhere."""
        return np.zeros(len(sizes), dtype=np.int64)
