"""What an attack is."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from declora import _bridge

__all__ = ["Attack", "Rows"]

Rows = NDArray[np.float32]


class Attack:
    """Clients of a run that lie. They train as all do; only what they send is not what they have.

    Attackers know everything: what all others send in a round before they send, and what the honest have after it,
    whose mean they take for their own. They tell all neighbours the same.

    Args:
        attackers: The clients that lie, ascending.
        seed: Seed of whatever they draw.
    """

    name: ClassVar[str]

    def __init__(self, attackers: Sequence[int], *, seed: int = 0) -> None:
        self.attackers = tuple(attackers)
        self.seed = seed

    def honest(self, clients: int) -> list[int]:
        """Returns the others of clients 0..clients - 1."""
        return [client for client in range(clients) if client not in self.attackers]

    def sent(self, t: int, rows: Rows) -> Rows:
        """Returns what is sent in round t instead of `rows [clients, D]`: the attackers' rows replaced in a copy."""
        changed = rows.copy()
        changed[list(self.attackers)] = self.lies(t, rows)
        return changed

    def lies(self, t: int, rows: Rows) -> NDArray[np.floating]:
        """Returns what the attackers send, `[attackers, D]` or one row for all, where `rows` would be right."""
        return rows[list(self.attackers)]

    def forge(self, codec: _bridge.Codec, frames: NDArray[np.uint8]) -> None:
        """Changes the attackers' encoded `frames [clients, bytes]` in place; most attacks do not."""
        return

    def adopt(self, rows: Rows) -> None:
        """Gives the attackers the mean of the honest `rows [clients, D]` for their own, in place.

        Mixing would move them by the difference to what they sent, which grows with the lie.
        """
        rows[list(self.attackers)] = rows[self.honest(len(rows))].mean(axis=0, dtype=np.float64)

    def __str__(self) -> str:
        """The attack with its options, as settings write it."""
        return self.name
