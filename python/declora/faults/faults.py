"""What the faults of a run do to a round."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from declora.faults.fault import Fault
from declora.mixer.refusals import at_home
from declora.plan import Mask, Phase, Plan

__all__ = ["Faults", "Struck"]


@dataclass(frozen=True, eq=False)
class Struck:
    """A round as faults leave it."""

    plan: Plan
    """Who is away does not train and sends nothing; the weights of what is lost are at home."""
    away: Mask | None = None
    """`[clients]`: who is away; None in a run in which nothing goes wrong."""

    @property
    def record(self) -> dict[str, int | str]:
        """What is recorded of it: how many were away, how many messages were lost on their way, a digest of which."""
        if self.away is None or (lost := self.plan.lost) is None:
            return {}
        which = np.packbits(self.away).tobytes() + lost.astype("<i4").tobytes()
        digest = hashlib.blake2b(which, digest_size=16).hexdigest()
        return {
            "clients_away": int(self.away.sum()),
            "messages_lost": len(lost),
            "faults_digest": f"blake2b:{digest}",
        }


@dataclass(frozen=True)
class Faults:
    """The faults of a run. What happens in a round depends on the seed and the round alone.

    Where a message is lost, that of the other direction is, too: a sender without an acknowledgement does not know
    whether its own arrived, so neither end counts the other in this round. The weights of both stay at home, each on
    its own end: a symmetric doubly stochastic matrix stays one, and the mean over clients is kept.
    """

    kinds: tuple[Fault, ...] = ()
    """None: nothing goes wrong."""
    least: int = 1
    """How many values, its own among them, a client needs to mix at all; one that has fewer keeps its own."""
    column_stochastic: bool = False
    """Whether columns of the weights sum to 1 instead of rows, so that what is lost stays with its sender."""

    def strike(self, plan: Plan) -> Struck:
        """Returns the round `plan`, in which nothing goes wrong, as these faults leave it."""
        if not self.kinds:
            return Struck(plan)
        clients, edges = plan.weights.shape[0], plan.edges
        away, lost = self._away(plan.event, clients), self._lost(plan.event, edges, clients)
        weights = at_home(plan.weights, edges[lost], to_sender=self.column_stochastic)
        if self.least > 1:
            few = np.diff(weights.indptr) < self.least
            weights = at_home(weights, edges[few[edges[:, 1]] & ~lost])
        before = self._lost(plan.event - 1, edges, clients) if plan.event else np.zeros_like(lost)
        sent = ~away[edges[:, 0]]  # to whoever is away, too, which a sender does not know
        struck = replace(
            plan,
            phases=tuple(Phase(np.where(away, 0, phase.steps), phase.trained) for phase in plan.phases),
            weights=weights,
            edges=edges[sent],
            lost=edges[sent & lost],
            behind=edges[before & ~lost],
        )
        return Struck(struck, away)

    def _away(self, t: int, clients: int) -> Mask:
        away: Mask = np.any([fault.away(t, clients) for fault in self.kinds], axis=0)
        return away

    def _lost(self, t: int, edges: NDArray[np.int32], clients: int) -> Mask:
        """Returns along which of `edges [E, 2]` nobody hears anything in round t, bool `[E]`."""
        gone = self._away(t, clients)[edges].any(axis=1)
        for fault in self.kinds:
            gone |= fault.lost(t, edges, clients)
        there, back = (edges[:, one].astype(np.int64) * clients + edges[:, 1 - one] for one in (0, 1))
        lost: Mask = gone | np.isin(there, back[gone])
        return lost

    def __str__(self) -> str:
        """The faults, as settings write them."""
        return "+".join(map(str, self.kinds))
