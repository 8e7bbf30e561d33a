"""What the faults of a run do to a round."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora.faults.fault import Fault
from declora.mixer.refusals import at_home, without
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
        """What is recorded of it: how many were away, how many messages were lost or late, a digest of which."""
        if self.away is None or (lost := self.plan.lost) is None:
            return {}
        delayed = np.empty((0, 2)) if self.plan.delayed is None else self.plan.delayed
        which = b"".join(
            (np.packbits(self.away).tobytes(), lost.astype("<i4").tobytes(), delayed.astype("<i4").tobytes())
        )
        digest = hashlib.blake2b(which, digest_size=16).hexdigest()
        return {
            "clients_away": int(self.away.sum()),
            "messages_lost": len(lost),
            "messages_late": len(delayed),
            "faults_digest": f"blake2b:{digest}",
        }


@dataclass(frozen=True)
class Faults:
    """The faults of a run. What happens in a round depends on the seed and the round alone.

    Where a message is lost, that of the other direction is, too: a sender without an acknowledgement does not know
    whether its own arrived, so neither end counts the other in this round. The weights of both stay at home, each on
    its own end: a symmetric doubly stochastic matrix stays one, and the mean over clients is kept.

    Where one is late, both ends count each other when it arrives, by what both had sent then: x_i moves by
    w (z_j - z_i) of that round, and x_j by as much the other way, so the mean is kept, too. Stale differences
    overshoot: gossip that is always d rounds late, z^(d+1) = z^d - s l for the eigenvalues l of I - W, which are up to
    2, is stable for every graph iff s <= sin(pi / (2 (2d + 1))). So that is what the weight of a late message is
    multiplied with.
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
        delayed = ~lost & (self._lateness(plan.event, edges, clients) > 0)
        missing = lost | delayed
        weights = without(plan.weights, edges, missing, least=self.least, to_sender=self.column_stochastic)
        before = self._lost(plan.event - 1, edges, clients) if plan.event else np.zeros_like(lost)
        sent = ~away[edges[:, 0]]  # to whoever is away, too, which a sender does not know
        struck = replace(
            plan,
            phases=tuple(Phase(np.where(away, 0, phase.steps), phase.trained) for phase in plan.phases),
            weights=weights,
            edges=edges[sent],
            lost=edges[sent & lost],
            delayed=edges[delayed],
            late=tuple(self._arriving(plan, away)),
            behind=edges[before & ~lost],
        )
        return Struck(struck, away)

    @property
    def longest(self) -> int:
        """The most rounds that a message may be late."""
        return max((fault.longest for fault in self.kinds), default=0)

    def _arriving(self, plan: Plan, away: Mask) -> Iterator[tuple[int, sp.csr_array]]:
        """Yields what arrives of each earlier round; between clients of whom one is away now, nothing does."""
        clients, edges = plan.weights.shape[0], plan.edges
        for by in range(1, min(self.longest, plan.event) + 1):
            then = plan.event - by
            arrives = (self._lateness(then, edges, clients) == by) & ~self._lost(then, edges, clients)
            arrives &= ~away[edges].any(axis=1)
            if arrives.any():
                factor = math.sin(math.pi / (2 * (2 * by + 1)))
                yield by, _apart(factor * at_home(plan.weights, edges[~arrives]))

    def _lateness(self, t: int, edges: NDArray[np.int32], clients: int) -> NDArray[np.int64]:
        """Returns how many rounds late each message of round t is, as late as that of the other direction, `[E]`."""
        if not self.longest:
            return np.zeros(len(edges), dtype=np.int64)
        late = np.max([fault.late(t, edges, clients) for fault in self.kinds], axis=0)
        order = np.lexsort((edges[:, 0], edges[:, 1]))  # of the same edges turned round, which are as many
        both: NDArray[np.int64] = np.maximum(late, late[order])
        return both

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


def _apart(weights: sp.csr_array) -> sp.csr_array:
    """Returns the matrix with these weights beside the diagonal, and on it what makes each row's sum 1."""
    beside = weights - sp.diags_array(weights.diagonal())
    return sp.csr_array(beside + sp.diags_array(1.0 - beside.sum(axis=1)))
