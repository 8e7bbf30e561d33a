"""What happens in one event of a run, a round: which steps, what is trained, what is sent, with which weights."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.round_graph import RoundGraph

__all__ = ["Arrivals", "Columns", "Mask", "Phase", "Plan", "Rows"]

Rows = NDArray[np.float32]
"""A row of each client or message, `[n, columns]`."""
Mask = NDArray[np.bool_]
"""Which of them, `[n]`."""
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Columns:
    """Some columns of a matrix, as spans in rising order that do not touch."""

    width: int
    """Of the matrix."""
    spans: tuple[tuple[int, int], ...]
    """(first, one past the last) of each."""

    @classmethod
    def all(cls, width: int) -> "Columns":
        """Returns every column of a matrix of this width."""
        return cls(width, ((0, width),) if width else ())

    @classmethod
    def of(cls, width: int, spans: Iterable[tuple[int, int]]) -> "Columns":
        """Returns the columns that are in any of these spans."""
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(span for span in spans if span[0] < span[1]):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        return cls(width, tuple(joined))

    def __or__(self, other: "Columns") -> "Columns":
        """Returns the columns that are among these or the others, of the same matrix."""
        return Columns.of(other.width, self.spans + other.spans)

    def __and__(self, other: "Columns") -> "Columns":
        """Returns the columns that are among these and the others, of the same matrix."""
        pairs = itertools.product(self.spans, other.spans)
        return Columns.of(other.width, ((max(one[0], two[0]), min(one[1], two[1])) for one, two in pairs))

    @property
    def count(self) -> int:
        """How many columns these are."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def whole(self) -> bool:
        """Whether these are all columns."""
        return self.count == self.width

    @cached_property
    def rest(self) -> "Columns":
        """The other columns."""
        edges = [0, *(edge for span in self.spans for edge in span), self.width]
        return Columns.of(self.width, zip(edges[::2], edges[1::2], strict=True))

    def repeated(self, times: int) -> "Columns":
        """Returns these columns of so many matrices side by side."""
        spans = ((at * self.width + start, at * self.width + stop) for at in range(times) for start, stop in self.spans)
        return Columns.of(times * self.width, spans)

    def take(self, rows: NDArray[Number]) -> NDArray[Number]:
        """Returns these columns of `rows [n, width]`: `rows` itself for all of them, else a copy `[n, count]`."""
        if self.whole:
            return rows
        index = np.concatenate([np.arange(start, stop) for start, stop in (*self.spans, (0, 0))])
        return np.take(rows, index, axis=1)

    def put(self, rows: Rows, values: Rows) -> None:
        """Writes `values [n, count]` to these columns of `rows [n, width]`; nothing where they are `rows` itself."""
        if values is rows:
            return
        at = 0
        for start, stop in self.spans:
            rows[:, start:stop] = values[:, at : at + stop - start]
            at += stop - start


@dataclass(frozen=True)
class Phase:
    """Local steps in which the same columns are trained."""

    steps: NDArray[np.int64]
    """`[clients]`: steps of each client."""
    trained: Columns
    """Of the adapter; the others keep their values, and their moments do not age."""


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The frames that arrive in a round, one after the other."""

    edges: NDArray[np.int32]
    """`[A, 2]`, (sender, receiver) of each, in the order in which they come."""
    ago: NDArray[np.int64]
    """`[A]`: how many rounds ago its message was sent first."""
    again: Mask
    """`[A]`: whether it is sent now, as a copy of one that was sent before."""


@dataclass(frozen=True, eq=False)
class Plan:
    """One event: phases of local steps, then gossip."""

    event: int
    """Counted from 0."""
    phases: tuple[Phase, ...]
    sent: Columns
    """Of what the method lifts, which is the adapter unless its part that combines says otherwise."""
    graph: RoundGraph
    """Who hears whom, with which weights."""
    fresh: Columns = field(default=Columns(0, ()))
    """Of the adapter: columns whose moments are forgotten before the first step."""
    lost: NDArray[np.int32] | None = None
    """`[L, 2]`, those of `edges` along which nothing arrives: `weights` has nothing of them. None: all arrive."""
    delayed: NDArray[np.int32] | None = None
    """`[L, 2]`, those of `edges` along which something arrives in a later round: `weights` has nothing of them."""
    late: tuple[tuple[int, sp.csr_array], ...] = ()
    """What arrives now of earlier rounds: how many rounds ago it was sent, and `[clients, clients]`, what client i
    applies to the values of then, each row with sum 1. Nothing arrives twice."""
    behind: NDArray[np.int32] | None = None
    """`[B, 2]`, those of `edges` along which nothing arrived in the round before, but something does now."""
    arrivals: Arrivals | None = None
    """What comes, with what comes for nothing; None: each message that is neither lost nor delayed, once."""
    seconds: float | None = None
    """By the clock, after how many seconds of the run it is over, where the method says so; None: as clients wait."""

    @classmethod
    def of_clients(cls, width: int, steps: NDArray[np.int64], event: int = 0) -> "Plan":
        """Returns a round of local `steps [clients]` on all of `width` columns, and clients that never talk."""
        whole, alone = Columns.all(width), sp.csr_array(sp.eye_array(len(steps), format="csr"))
        return cls(event, (Phase(steps, whole),), whole, RoundGraph(alone))

    def at(self, rows: slice) -> "Plan":
        """Returns the round of the clients at `rows`: their steps, and who talks to whom among all."""
        if rows == slice(0, self.graph.clients):
            return self
        phases = tuple(Phase(phase.steps[rows], phase.trained) for phase in self.phases)
        return replace(self, phases=phases)

    @property
    def weights(self) -> sp.csr_array:
        """Mixing matrix `[clients, clients]`; row i is what client i applies."""
        return self.graph.weights

    @property
    def edges(self) -> NDArray[np.int32]:
        """`[E, 2]`, (sender, receiver) of each message."""
        return self.graph.edges

    @property
    def steps(self) -> NDArray[np.int64]:
        """`[clients]`: local steps of each client in all phases."""
        total: NDArray[np.int64] = np.sum([phase.steps for phase in self.phases], axis=0)
        return total
