"""What an attack is."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.plan import Rows

__all__ = ["Attack", "Past", "Rows"]

Past = dict[str, Any]
"""Arrays by name."""


class Attack:
    """Clients of a run that lie. They train as all do; only what they send is not what they have.

    Attackers know everything: the graph, what all others send in a round before they send, and what the honest have
    after it, whose mean they take for their own. Most tell all neighbours the same; one that does not has messages
    that a single neighbour hears, `private`.

    Args:
        attackers: The clients that lie, ascending.
        seed: Seed of whatever they draw.
    """

    name: ClassVar[str]
    equivocates: ClassVar[bool] = False
    """Whether it tells different neighbours different things, which needs neighbours: a server is told one."""
    forwards: int | None = None
    """The client, which may be elsewhere, whose frames attackers send for their own; None: nobody's."""
    repeats: ClassVar[bool] = False
    """Whether it sends again what was sent in an earlier round, so that rounds have to send the same columns."""
    private: NDArray[np.int32] = np.empty((0, 2), dtype=np.int32)
    """int32 `[P, 2]`, sorted (attacker, neighbour) pairs: who has a message for whom alone."""
    acting: tuple[int, ...]
    """Those of the attackers who are in this process."""

    def __init__(self, attackers: Sequence[int], *, seed: int = 0) -> None:
        self.attackers = self.acting = tuple(attackers)
        self.seed = seed
        self._known: NDArray[np.int64] | None = None
        self._here: NDArray[np.int64] | None = None

    def honest(self, clients: int) -> list[int]:
        """Returns the others of clients 0..clients - 1."""
        return [client for client in range(clients) if client not in self.attackers]

    def start(
        self,
        matrices: Sequence[sp.csr_array],
        past: Past,
        *,
        known: NDArray[np.int64] | None = None,
        here: NDArray[np.int64] | None = None,
    ) -> None:
        """Begins a run on a graph whose mixing matrices of one period are `matrices`, and forgets the one before.

        Args:
            matrices: Of one period.
            past: Where an attack keeps, by name, what it has to know of earlier rounds: arrays with a row for each
                client of this process.
            known: int64, rising: the clients whose messages are known to this process; None: all.
            here: int64, those of them who are in it; None: all.
        """
        self._known, self._here = known, here
        self.acting = self.attackers if here is None else tuple(c for c in self.attackers if here[0] <= c <= here[-1])

    def _heard_at(self, clients: Sequence[int]) -> list[int]:
        """Returns the places of clients among those whose messages are known."""
        return list(clients) if self._known is None else np.searchsorted(self._known, clients).tolist()

    def _kept_at(self, clients: Sequence[int]) -> list[int]:
        """Returns the places of clients among those of this process."""
        return list(clients) if self._here is None else [client - int(self._here[0]) for client in clients]

    def sent(self, t: int, rows: Rows) -> Rows:
        """Returns what is sent in round t instead of `rows [clients, D]`: the attackers' rows replaced in a copy.

        Where there are private messages, they follow in further rows: `[clients + P, D]`. Where no attacker is in this
        process, `rows` themselves, which are then of fewer clients.
        """
        if not self.acting:
            return rows
        changed = rows.copy()
        with np.errstate(over="ignore"):  # beyond float32: `cut` brings it back
            changed[list(self.acting)] = self.lies(t, rows)
        return changed

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns what the attackers here send, `[acting, D]` or one row for all, where `rows` would be right."""
        return rows[list(self.acting)]

    def cut(self, outgoing: Rows, senders: NDArray[np.uint32], limit: float) -> None:
        """Brings the attackers' rows of `outgoing [messages, D]` to magnitudes below `limit`, in place.

        A lie is a message that their codec can carry: beyond that, the largest one.
        """
        lying = np.isin(senders, self.attackers)
        most = np.nextafter(np.float32(limit), np.float32(0))
        outgoing[lying] = np.clip(np.nan_to_num(outgoing[lying], nan=0.0), -most, most)

    def lent(self, t: int, frames: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Returns the frame, uint8 `[bytes]`, that attackers send for theirs in round t, where it `forwards` any.

        None where there is none yet, or where its client is elsewhere.

        Args:
            t: Round, from 0.
            frames: Of all messages that are known, `[messages, bytes]`.
        """
        return None

    def forward(self, frames: NDArray[np.uint8], lent: NDArray[np.uint8]) -> None:
        """Puts the frame that is lent in the place of the attackers' here, in `frames [messages, bytes]`."""
        frames[self._heard_at(self.acting)] = lent

    def forge(self, t: int, codecs: Sequence[tuple[_bridge.Codec | None, int]], frames: NDArray[np.uint8]) -> None:
        """Changes the encoded `frames [messages, bytes]` of the attackers here in place; most attacks do not.

        Args:
            t: Round, from 0.
            codecs: What made the payload of each message, None for a codec that is not of the core, of whose bytes
                nothing is known; and how many columns it carries.
            frames: Of all messages that are known.
        """
        return

    def hear(self, t: int, public: Callable[[], Rows]) -> None:
        """Remembers what was heard in round t, where an attack has a use for it.

        Args:
            t: Round, from 0.
            public: Returns what every holder of a message reconstructs from it, `[messages, D]`, of those that are
                known.
        """
        return

    def adopt(self, rows: Rows) -> None:
        """Gives the attackers here the mean of the honest `rows [clients, D]` for their own, in place.

        Mixing would move them by the difference to what they sent, which grows with the lie.
        """
        rows[list(self.acting)] = rows[self.honest(len(rows))].mean(axis=0, dtype=np.float64)

    def __str__(self) -> str:
        """The attack with its options, as settings write it."""
        return self.name
