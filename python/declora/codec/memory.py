"""What a codec remembers between rounds, so that what compression drops is not lost.

A memory sits between the rows X and the stateless codec C: it says what is encoded, and what every holder of the bytes
takes the sender's public value z to be.

The consensus step size gamma that goes with a codec is a rule in a = its contraction on normal numbers,
E||z - x||^2 = (1 - a) ||x||^2: a^2, with public copies and without a memory, or a quarter of it for error feedback on
rows; 1 for codecs that lose next to nothing. It was found by gossip of 10 random
rows, at rest and drifting, on the ring, the star and the complete graph, with 13 step sizes and codecs of a = .05 to
.93 (`benches/gamma.py`): about twice as much may diverge on the complete graph, and no graph gains much by less.
CHOCO's own theory asks for a hundredth of that.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from declora.plan import Columns, Mask, Rows

__all__ = ["EF21", "MEMORIES", "ErrorFeedback", "Memory", "NoMemory", "PublicCopies"]


class Memory(ABC):
    """The memory of one codec for all messages of a process; `state` is float32 `[messages, D]`.

    A round may send some columns only. What is remembered of the others stays as it is.

    Args:
        shrink: What decoded values are multiplied with. A memory needs a *contractive* codec, E||z - x||^2 < ||x||^2;
            an unbiased one of relative variance omega becomes that by 1 / (1 + omega). Without it the memory of a
            coarse codec (omega > 1) grows for ever.
        room: Where `state` is kept, under that name.
    """

    name: ClassVar[str]
    needs_static_graph: ClassVar[bool] = False
    lossless: ClassVar[bool] = False
    """Whether the public values are what is decoded, and nothing is remembered."""

    def __init__(self, shrink: float = 1.0, room: dict[str, Any] | None = None) -> None:
        self.shrink = np.float32(shrink)
        self._room = {} if room is None else room

    @property
    def state(self) -> Rows:
        """What is remembered, float32 `[messages, D]`."""
        state: Rows = self._room["state"]
        return state

    @classmethod
    def gamma(cls, contraction: float) -> float:
        """Returns the consensus step size for a codec of this contraction a: a^2, or 1 from a = .95 on."""
        return contraction**2 if contraction < 0.95 else 1.0

    def start(self, rows: Rows) -> None:
        """Begins from the clients' common first adapter, `rows [messages, D]`; needs nothing without a state."""
        return

    @abstractmethod
    def outgoing(self, rows: Rows, columns: Columns | None = None) -> Rows:
        """Returns what is encoded for `rows [messages, columns]`, which are these columns of the state, or all."""

    @abstractmethod
    def public(self, decoded: Rows, columns: Columns | None = None) -> Rows:
        """Returns the public values z, `[messages, columns]`, in the place of `decoded`; nothing is remembered yet."""

    def remember(self, outgoing: Rows, public: Rows, refused: Mask, columns: Columns | None = None) -> None:
        """Moves on by the messages that were taken; of a `refused` one, `[messages]`, all stays as it was.

        Args:
            outgoing: What was encoded, `[messages, columns]`.
            public: z as `public` returned it, likewise; kept, and not to be changed by anybody.
            refused: Which messages were refused by all who got them: a sender learns it as the receivers do.
            columns: Of the state.
        """
        return

    def _of_state(self, columns: Columns | None) -> Rows:
        return self.state if columns is None else columns.take(self.state)

    def _keep(self, values: Rows, columns: Columns | None) -> None:
        if columns is None or columns.whole:
            self._room["state"] = values
        else:
            columns.put(self.state, values)


class NoMemory(Memory):
    """z = C(x)."""

    name = "none"
    lossless = True

    def outgoing(self, rows: Rows, columns: Columns | None = None) -> Rows:
        """Returns `rows`."""
        return rows

    def public(self, decoded: Rows, columns: Columns | None = None) -> Rows:
        """Returns `decoded`."""
        return decoded


class ErrorFeedback(Memory):
    """z = C(x + m), then m <- x + m - z: what a round drops is sent with the next (arXiv 1809.07599).

    The sum of what was sent plus the memory is the sum of what was to be sent. The rows themselves are sent, so every z
    is as far from x as one round's error: over rounds it evens out, but clients agree less closely than with public
    copies, where what is sent vanishes as they agree. (Error feedback on the *changes* of x is public copies.)
    """

    name = "ef"

    @classmethod
    def gamma(cls, contraction: float) -> float:
        """Returns a^2 / 4, or 1 where the codec is all but exact: m comes back in the next round, so noise grows."""
        return contraction**2 / 4.0 if contraction < 0.999 else 1.0

    def start(self, rows: Rows) -> None:
        """Begins with nothing owed."""
        self._room["state"] = np.zeros_like(rows)

    def outgoing(self, rows: Rows, columns: Columns | None = None) -> Rows:
        """Returns x + m."""
        return rows + self._of_state(columns)

    def public(self, decoded: Rows, columns: Columns | None = None) -> Rows:
        """Returns z."""
        decoded *= self.shrink
        return decoded

    def remember(self, outgoing: Rows, public: Rows, refused: Mask, columns: Columns | None = None) -> None:
        """Owes what z lacks; where nothing was taken, what was owed before, since x goes out again by itself."""
        owed = self._of_state(columns)
        before = owed[refused]
        np.subtract(outgoing, public, out=owed)
        owed[refused] = before
        self._keep(owed, columns)


class PublicCopies(Memory):
    """CHOCO (Koloskova et al. 2019, arXiv 1902.00340): send q = C(x - xhat), then xhat <- xhat + q at every holder.

    All holders apply the same bytes to the same copy, so one copy per client serves a whole simulation. The copies
    start at the common first adapter, which everybody knows.
    """

    name = "choco"
    needs_static_graph = True

    def start(self, rows: Rows) -> None:
        """Begins with the copies equal to `rows`."""
        self._room["state"] = rows.copy()

    def outgoing(self, rows: Rows, columns: Columns | None = None) -> Rows:
        """Returns x - xhat."""
        return rows - self._of_state(columns)

    def public(self, decoded: Rows, columns: Columns | None = None) -> Rows:
        """Returns the copies as these messages move them."""
        decoded *= self.shrink
        with np.errstate(over="ignore"):  # a message that moves a copy to infinity is the caller's to refuse
            decoded += self._of_state(columns)
        return decoded

    def remember(self, outgoing: Rows, public: Rows, refused: Mask, columns: Columns | None = None) -> None:
        """Keeps the moved copies."""
        public[refused] = self._of_state(columns)[refused]
        self._keep(public, columns)


class EF21(PublicCopies):
    """EF21 (Richtarik et al. 2021, arXiv 2106.05203): h <- h + C(x - h), and h is used. In gossip that is CHOCO."""

    name = "ef21"


MEMORIES: dict[str, type[Memory]] = {kind.name: kind for kind in (ErrorFeedback, EF21, PublicCopies)}
