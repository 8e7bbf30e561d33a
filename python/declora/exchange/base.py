"""What an exchange does: carry the frames of a round along its edges."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Delivery", "Exchange"]


@dataclass(frozen=True)
class Delivery:
    """What arrived, and what it cost."""

    frames: NDArray[np.uint8]
    """`[messages, frame bytes]`, as they were sent."""
    bytes_sent: NDArray[np.int64]
    """`[messages]`: bytes that each message put on its sender's own link, headers included."""


class Exchange(ABC):
    """Carries frames; knows neither what is in them nor what becomes of them."""

    @abstractmethod
    def deliver(self, frames: NDArray[np.uint8], sizes: NDArray[np.int64], edges: NDArray[np.int32]) -> Delivery:
        """Returns what the receivers hold after every frame went along its edges.

        Args:
            frames: `[messages, frame bytes]`; see `Routes` for what a message is: of honest clients, one of each.
            sizes: `[messages]`: bytes of each row that are the message, and are carried.
            edges: int32 `[E, 2]`, the (message, receiver) pairs of the round.
        """
