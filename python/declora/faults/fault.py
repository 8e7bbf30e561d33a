"""What a fault is, and the kinds there are. Each is a function of the seed and the round, and remembers nothing."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from declora import seeds
from declora.plan import Mask
from declora.spec import Option

__all__ = ["Delay", "Dropout", "Duplicate", "Fault", "Loss", "Partition", "Reorder"]

_LONGEST = 10**6
_P = Option(whole=False, least=0, most=1, needed=True)
_SOME_ROUNDS = 100
"""The most by which a message may be late: what it says is kept so long."""


class Fault:
    """A fault of clients or links; each kind has one thing to say.

    Args:
        seed: The run's.
    """

    name: ClassVar[str]
    """What settings call it."""
    options: ClassVar[Mapping[str, Option]]
    """The numbers that its constructor takes by name, as settings may give them."""
    stray: ClassVar[bool] = False
    """Whether frames may come for nothing: of messages that came already, or that later ones overtook."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def away(self, t: int, clients: int) -> Mask:
        """Returns which clients neither train nor send nor hear in round t, bool `[clients]`."""
        return np.zeros(clients, dtype=np.bool_)

    def lost(self, t: int, edges: NDArray[np.int32], clients: int) -> Mask:
        """Returns which messages of round t get lost, bool `[E]`, where they go along `edges [E, 2]`."""
        return np.zeros(len(edges), dtype=np.bool_)

    @property
    def longest(self) -> int:
        """The most rounds that a message may be late."""
        return 0

    def late(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.int64]:
        """Returns how many rounds late each message of round t is, int64 `[E]`, where they go along `edges [E, 2]`."""
        return np.zeros(len(edges), dtype=np.int64)

    @property
    def reach(self) -> int:
        """For how many rounds after it was due a frame may come for nothing."""
        return 0

    def again(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.int64]:
        """Returns how many rounds after it came each message of round t comes again, int64 `[E]`; -1: it does not."""
        return np.full(len(edges), -1, dtype=np.int64)

    def overtaken(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.float64]:
        """Returns how far out of its turn each message of round t comes, in rounds, float64 `[E]`; -1: it does not.

        Below 1 it comes in its round, behind those of the others, the greater the later; from d to d + 1 in the d-th
        round after it, behind what was sent in that one along the same link.
        """
        return np.full(len(edges), -1.0)

    def _drawn(self, t: int, count: int) -> NDArray[np.float64]:
        """Returns numbers in [0, 1) of round t, `[count]`."""
        return seeds.generator(self._seed, "faults", self.name, t).random(count)

    def _in_parts(self, t: int, count: int, p: float, parts: int) -> NDArray[np.float64]:
        """Returns numbers in [0, parts) of round t for those of `count` that drew one below p, the lower, the less.

        Those of the others are -1.
        """
        drawn, found = self._drawn(t, count), np.full(count, -1.0)
        low = drawn < p
        found[low] = np.minimum(drawn[low] / p * parts, np.nextafter(parts, 0))
        return found


class Loss(Fault):
    """Each message gets lost with probability p, by itself."""

    name = "loss"
    options: ClassVar[Mapping[str, Option]] = {"p": _P}

    def __init__(self, p: float, *, seed: int) -> None:
        super().__init__(seed=seed)
        self._p = p

    def lost(self, t: int, edges: NDArray[np.int32], clients: int) -> Mask:
        """Returns the messages that drew a number below p."""
        return self._drawn(t, len(edges)) < self._p

    def __str__(self) -> str:
        """The fault with its options, as settings write it."""
        return f"loss:p={self._p:g}"


class _ForRounds(Fault):
    """What happens with probability p, and may last some rounds."""

    def __init__(self, p: float, rounds: int, *, seed: int) -> None:
        super().__init__(seed=seed)
        self._p, self._rounds = p, rounds

    def __str__(self) -> str:
        """The fault with its options, as settings write it."""
        return f"{self.name}:p={self._p:g},rounds={self._rounds}"


class Dropout(_ForRounds):
    """Each client that is there goes away with probability p at the start of a round, and is back after some rounds.

    A client that comes back has what it had when it went.
    """

    name = "dropout"
    options: ClassVar[Mapping[str, Option]] = {
        "p": _P,
        "rounds": Option(whole=True, least=1, most=_LONGEST, default=1),
    }

    def away(self, t: int, clients: int) -> Mask:
        """Returns who went away in this round, or in one that is not `rounds` ago."""
        recent = range(max(0, t - self._rounds + 1), t + 1)
        drawn = np.array([self._drawn(earlier, clients) for earlier in recent])
        return np.asarray((drawn < self._p).any(axis=0))


class Partition(Fault):
    """The network falls into parts for some rounds; no message goes from one part to another.

    Parts are as large as each other, to one client; the seed says who is where.
    """

    name = "partition"
    options: ClassVar[Mapping[str, Option]] = {
        "start": Option(whole=True, least=1, most=_LONGEST, needed=True),
        "rounds": Option(whole=True, least=1, most=_LONGEST, needed=True),
        "parts": Option(whole=True, least=2, most=_LONGEST, default=2),
    }

    def __init__(self, start: int, rounds: int, parts: int, *, seed: int) -> None:
        super().__init__(seed=seed)
        self._start, self._rounds, self._parts = start, rounds, parts

    def lost(self, t: int, edges: NDArray[np.int32], clients: int) -> Mask:
        """Returns the messages between parts in the rounds from `start` on, the first round being 1."""
        if not self._start <= t + 1 < self._start + self._rounds:
            return super().lost(t, edges, clients)
        part = seeds.generator(self._seed, "faults", self.name).permutation(clients) % self._parts
        return np.asarray(part[edges[:, 0]] != part[edges[:, 1]])

    def __str__(self) -> str:
        """The fault with its options, as settings write it."""
        return f"partition:start={self._start},rounds={self._rounds},parts={self._parts}"


class Delay(_ForRounds):
    """Each message is late with probability p, by itself: by 1 to `rounds` rounds, each as likely."""

    name = "delay"
    options: ClassVar[Mapping[str, Option]] = {
        "p": _P,
        "rounds": Option(whole=True, least=1, most=_SOME_ROUNDS, default=1),
    }

    @property
    def longest(self) -> int:
        """The most rounds that a message may be late."""
        return self._rounds if self._p > 0 else 0

    def late(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.int64]:
        """Returns 1 to `rounds` for the messages that drew a number below p: the lower, the less."""
        return np.floor(self._in_parts(t, len(edges), self._p, self._rounds)).astype(np.int64) + 1


class _Stray(_ForRounds):
    """What has frames come for nothing, some of them in later rounds."""

    stray = True
    options: ClassVar[Mapping[str, Option]] = {
        "p": _P,
        "rounds": Option(whole=True, least=0, most=_SOME_ROUNDS, default=1),
    }

    @property
    def reach(self) -> int:
        """For how many rounds after it was due a frame may come."""
        return self._rounds


class Duplicate(_Stray):
    """Each message that comes does so again with probability p: in the same round or up to `rounds` later, as likely.

    Its sender, to whom it seemed lost, sends it once more.
    """

    name = "duplicate"

    def again(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.int64]:
        """Returns 0 to `rounds` for the messages that drew a number below p: the lower, the less."""
        return np.floor(self._in_parts(t, len(edges), self._p, self._rounds + 1)).astype(np.int64)


class Reorder(_Stray):
    """Each message is overtaken with probability p: by others of its round, or by those of the next 1 to `rounds`.

    Within a round that changes nothing. A receiver that has heard a sender's later message does not go back: the one
    that was overtaken is refused when it comes, and for the mean it is lost.
    """

    name = "reorder"

    def overtaken(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.float64]:
        """Returns 0 to `rounds` + 1 for the messages that drew a number below p: the lower, the less."""
        return self._in_parts(t, len(edges), self._p, self._rounds + 1)
