"""What an exchange does: carry each client's frame along the edges of a round."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Delivery", "Exchange"]


@dataclass(frozen=True)
class Delivery:
    """What arrived, and what it cost."""

    frames: NDArray[np.uint8]
    """`[clients, frame bytes]`: row j is the frame of client j."""
    bytes_sent: NDArray[np.int64]
    """`[clients]`: bytes on each client's own link, headers included."""


class Exchange(ABC):
    """Carries frames; knows neither what is in them nor what becomes of them."""

    @abstractmethod
    def deliver(
        self, frames: NDArray[np.uint8], sizes: NDArray[np.int64], edges: Sequence[tuple[int, int]]
    ) -> Delivery:
        """Returns what the receivers hold after every frame went along its edges.

        Args:
            frames: `[clients, frame bytes]`, one frame of each sender.
            sizes: `[clients]`: bytes of each row that are the message, and are carried.
            edges: Directed (sender, receiver) pairs of the round.
        """
