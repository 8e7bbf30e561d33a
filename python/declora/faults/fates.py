"""What becomes of the clients and messages of a round, as the seed says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from declora.faults.fault import Fault
from declora.plan import Mask

__all__ = ["Fates"]


@dataclass(frozen=True, eq=False)
class Fates:
    """What becomes of a round, whatever the others are."""

    edges: NDArray[np.int32]
    """`[E, 2]`, its messages if nobody were away, (sender, receiver), sorted."""
    away: Mask
    """`[clients]`: who neither sends nor hears."""
    gone: Mask
    """`[E]`: which messages never come anywhere."""
    lost: Mask
    """`[E]`: which count for nobody: gone or overtaken, or the one of the other direction is."""
    late: NDArray[np.int64]
    """`[E]`: by how many rounds each is late, as late as that of the other direction."""
    again: NDArray[np.int64]
    """`[E]`: how many rounds after it came each comes again; -1: it does not."""
    overtaken: NDArray[np.float64]
    """`[E]`: how far out of its turn each comes, in rounds, see `Fault.overtaken`; -1: it does not."""

    @classmethod
    def of(cls, kinds: Sequence[Fault], t: int, edges: NDArray[np.int32], clients: int) -> "Fates":
        """Returns what faults of some kinds do to round t, whose messages go along `edges`."""
        away: Mask = reduce(np.logical_or, (fault.away(t, clients) for fault in kinds))
        gone = np.asarray(away[edges].any(axis=1))
        for fault in kinds:
            gone |= fault.lost(t, edges, clients)
        overtaken = reduce(np.maximum, (fault.overtaken(t, edges, clients) for fault in kinds))
        back, there = _turned(edges, clients)
        none = gone | (overtaken >= 1)
        late = reduce(np.maximum, (fault.late(t, edges, clients) for fault in kinds))
        return cls(
            edges,
            away,
            gone,
            none | (there & none[back]),
            np.maximum(late, np.where(there, late[back], 0)),
            reduce(np.maximum, (fault.again(t, edges, clients) for fault in kinds)),
            overtaken,
        )

    @property
    def strays(self) -> dict[str, int]:
        """How many messages will come again, and how many come out of their turn."""
        return {
            "messages_duplicated": int((~self.lost & (self.again >= 0)).sum()),
            "messages_reordered": int((~self.gone & (self.overtaken >= 0)).sum()),
        }


def _turned(edges: NDArray[np.int32], clients: int) -> tuple[NDArray[np.int64], Mask]:
    """Returns where each of `edges [E, 2]`, sorted, is turned round, and whether it is."""
    forth, back = (edges[:, one].astype(np.int64) * clients + edges[:, 1 - one] for one in (0, 1))
    at = np.minimum(np.searchsorted(forth, back), max(0, len(forth) - 1))
    return at, forth[at] == back
