"""What an exchange does: carry the frames of a round along its edges."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.exchange.routes import Routes
from declora.plan import Mask, Rows
from declora.round_graph import Audience

__all__ = ["Delivery", "Exchange", "Levelled"]


@dataclass(frozen=True)
class Delivery:
    """What arrived, and what it cost."""

    frames: NDArray[np.uint8]
    """`[messages, frame bytes]`, as they were sent."""
    bytes_sent: NDArray[np.int64]
    """`[messages]`: bytes that each message put on its sender's own link, headers included."""
    gone: NDArray[np.bool_] | None = None
    """`[clients]`: who cannot be reached any more, and sends nothing; None: nobody."""


class Levelled(NamedTuple):
    """What clients keep of each other, brought level."""

    told: NDArray[np.int64]
    """`[messages]`: how many clients elsewhere are told the whole copy of each."""
    anew: Mask
    """`[messages]`: of which senders nothing of the rounds before counts any more."""


class Exchange(ABC):
    """Carries frames; knows neither what is in them nor what becomes of them.

    What is said, and what a client is left with, pass through it too, so that an exchange in which clients lie is one
    like any other.
    """

    silent: ClassVar[bool] = False
    """Whether nobody ever talks."""
    served: bool = False
    """Whether messages go to a server, which sends one back."""

    def begin(self, clients: int, matrices: Sequence[sp.csr_array], past: dict[str, Any]) -> Routes:
        """Begins a run of `clients` on mixing matrices of one period; returns who hears which message.

        Args:
            clients: Number of clients.
            matrices: Of one period.
            past: Where the exchange keeps what it has to know of earlier rounds.
        """
        return Routes(clients)

    def tell_apart(self, clients: int, private: NDArray[np.int32]) -> Routes:
        """Returns who hears which message where some clients tell neighbours different things.

        Args:
            clients: Number of clients.
            private: int32 `[P, 2]`, sorted: (sender, receiver) of each message that one client alone hears.
        """
        return Routes(clients, private)

    def level(self, t: int, copies: Rows | None) -> Levelled | None:
        """Brings level, before round t, what clients keep of each other, where some have missed rounds.

        Args:
            t: Round, from 0.
            copies: What every holder keeps of each message's sender, `[messages, D]`, written where others have
                another; None where nothing is kept.

        Returns:
            What of it was not level; None where all was.
        """
        return None

    def everyone(self, t: int, rows: Rows, *, after: bool) -> Rows | None:
        """Returns what all clients of the run have, `[all clients, D]`, where somebody here may know; else None.

        Args:
            t: Round, from 0.
            rows: What clients that are known have, `[clients, D]`; only those of clients here count.
            after: Whether that is after they were mixed; before it, where not.
        """
        return rows

    def told(self, t: int, rows: Rows) -> Rows:
        """Returns what each message of round t says, `[messages, D]`, where clients have `rows [clients, D]`."""
        return rows

    def lend(
        self, t: int, client: int, frames: NDArray[np.uint8], lent: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8] | None:
        """Returns the frame that liars here send for their own in round t, uint8 `[frame bytes]`; None: theirs.

        Args:
            t: Round, from 0.
            client: Whose it is.
            frames: Of all messages, `[messages, frame bytes]`.
            lent: The frame, where the client is here and there is one.
        """
        return lent

    def fitted(self, outgoing: Rows, limit: float) -> Rows:
        """Returns what is encoded for `outgoing [messages, D]`, whose magnitudes must stay below `limit`."""
        return outgoing

    def posted(self, t: int, codecs: Sequence[tuple[_bridge.Codec | None, int]], frames: NDArray[np.uint8]) -> None:
        """Changes `frames [messages, frame bytes]` in place to what their senders really send.

        Args:
            t: Round, from 0.
            codecs: What made the payload of each message, None for a codec that is not of the core, of whose bytes
                nothing is known; and how many columns it carries.
            frames: Of all messages.
        """
        return

    def spent(self, sizes: NDArray[np.int64], audience: Audience) -> NDArray[np.int64]:
        """Returns how many bytes each message puts on its sender's own link, int64 `[messages]`.

        Args:
            sizes: `[messages]`, of each.
            audience: Who hears each message of the round.
        """
        return audience.counts * sizes

    @abstractmethod
    def deliver(
        self,
        frames: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        audience: Audience,
        beside: NDArray[np.float64] | None = None,
    ) -> Delivery:
        """Returns what the receivers hold after every frame went to its audience.

        Args:
            frames: `[messages, frame bytes]`; see `Routes` for what a message is: of honest clients, one of each.
            sizes: `[messages]`: bytes of each row that are the message, and are carried.
            audience: Who hears each message of the round.
            beside: `[messages]`, a number that goes with each message; those that come from elsewhere are written to
                it. None: none do.
        """

    def heard(self, t: int, public: Callable[[], Rows]) -> None:
        """Lets clients remember what they heard in round t.

        Args:
            t: Round, from 0.
            public: Returns what every holder of a message reconstructs from it, `[messages, D]`.
        """
        return

    def settle(self, t: int, rows: Rows) -> None:
        """Leaves clients with `rows [clients, D]` after round t, changed in place where they have something else."""
        return

    def explaining(self, t: int) -> AbstractContextManager[None]:
        """Adds to an error in round t what the exchange knows of its cause."""
        return nullcontext()
