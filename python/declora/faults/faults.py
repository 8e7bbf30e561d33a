"""What the faults of a run do to a round."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from declora.faults.fates import Fates
from declora.faults.fault import Fault
from declora.mixer.refusals import at_home, without
from declora.plan import Arrivals, Mask, Phase, Plan
from declora.round_graph import RoundGraph

__all__ = ["Faults", "Struck"]


@dataclass(frozen=True, eq=False)
class Struck:
    """A round as faults leave it."""

    plan: Plan
    """Who is away does not train and sends nothing; the weights of what is lost are at home."""
    away: Mask | None = None
    """`[clients]`: who is away; None in a run in which nothing goes wrong."""
    strays: Mapping[str, int] = field(default_factory=dict)
    """How many of its messages come again or out of their turn, by name, where that may be."""

    @property
    def record(self) -> dict[str, int | str]:
        """What is recorded of it: how many were away, how many messages were lost, late and so on, a digest of which.

        The digest is of all that comes, in its order, too, where that may be more than each message once.
        """
        if self.away is None or (lost := self.plan.lost) is None:
            return {}
        delayed, arrivals = self.plan.delayed, self.plan.arrivals
        came = None if arrivals is None else np.c_[arrivals.ago, arrivals.again, arrivals.edges]
        which = [part.astype("<i4").tobytes() for part in (lost, delayed, came) if part is not None]
        digest = hashlib.blake2b(np.packbits(self.away).tobytes() + b"".join(which), digest_size=16).hexdigest()
        return {
            "clients_away": int(self.away.sum()),
            "messages_lost": len(lost),
            "messages_late": 0 if delayed is None else len(delayed),
            **self.strays,
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

    A message that those of later rounds overtake is one that was lost: its receiver goes by the later ones. Its frame
    comes all the same, as copies of others do: all that comes is in `Plan.arrivals`, and refused by who gets it.
    """

    kinds: tuple[Fault, ...] = ()
    """None: nothing goes wrong."""
    least: int = 1
    """How many values, its own among them, a client needs to mix at all; one that has fewer keeps its own."""
    column_stochastic: bool = False
    """Whether columns of the weights sum to 1 instead of rows, so that what is lost stays with its sender."""
    _drawn: dict[int, Fates] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of the last rounds, which the next ones ask for again."""

    def strike(self, plan: Plan) -> Struck:
        """Returns the round `plan`, in which nothing goes wrong, as these faults leave it."""
        if not self.kinds:
            return Struck(plan)
        now = self._fates(plan.event, plan)
        edges, away, lost = plan.edges, now.away, now.lost
        delayed = ~lost & (now.late > 0)
        weights = without(plan.weights, edges, lost | delayed, least=self.least, to_sender=self.column_stochastic)
        before = self._fates(plan.event - 1, plan).lost if plan.event else np.zeros_like(lost)
        sent = ~away[edges[:, 0]]  # to whoever is away, too, which a sender does not know
        struck = replace(
            plan,
            phases=tuple(Phase(np.where(away, 0, phase.steps), phase.trained) for phase in plan.phases),
            graph=RoundGraph(weights, edges[sent]),
            lost=edges[sent & lost],
            delayed=edges[delayed],
            late=tuple(self._late(plan, away)),
            behind=edges[before & ~lost],
            arrivals=self._arrivals(plan, away) if self.stray else None,
        )
        self._forget(plan.event)
        return Struck(struck, away, now.strays if self.stray else {})

    @property
    def longest(self) -> int:
        """The most rounds that a message may be late."""
        return max((fault.longest for fault in self.kinds), default=0)

    @property
    def stray(self) -> bool:
        """Whether frames may come for nothing: of messages that came already, or that later ones overtook."""
        return any(fault.stray for fault in self.kinds)

    @property
    def reach(self) -> int:
        """The most rounds between the sending of a message and the last frame of it that comes."""
        return self.longest + max((fault.reach for fault in self.kinds), default=0)

    def _late(self, plan: Plan, away: Mask) -> Iterator[tuple[int, sp.csr_array]]:
        """Yields what arrives of each earlier round; between clients of whom one is away now, nothing does."""
        for by in range(1, min(self.longest, plan.event) + 1):
            then = self._fates(plan.event - by, plan)
            arrives = (then.late == by) & ~then.lost & ~away[plan.edges].any(axis=1)
            if arrives.any():
                factor = math.sin(math.pi / (2 * (2 * by + 1)))
                yield by, _apart(factor * at_home(plan.weights, plan.edges[~arrives]))

    def _arrivals(self, plan: Plan, away: Mask) -> Arrivals:
        """Returns every frame that comes in this round, but between clients of whom one is away: nothing does there.

        What is late comes first, then what was sent now, what was overtaken in earlier rounds, copies, and last what
        others of its round overtook.
        """
        there = ~away[plan.edges].any(axis=1)
        parts = [(np.empty(0, dtype=np.intp), np.empty(0), 0, False)]
        for ago in range(min(self.reach, plan.event) + 1):
            then = self._fates(plan.event - ago, plan)
            counts, waits = there & ~then.lost, then.overtaken >= 0
            due, copied = counts & (then.late == ago), counts & (then.again >= 0) & (then.late + then.again == ago)
            behind = there & ~then.gone & waits & (ago > 0) & (then.overtaken.astype(np.int64) == ago)
            turns = np.where(waits, 4.0 + then.overtaken, float(ago == 0))
            for which, turn, again in ((due, turns, False), (behind, 2.0, False), (copied, 3.0, True)):
                if len(at := np.flatnonzero(which)):
                    parts.append((at, np.broadcast_to(turn, which.shape)[at], ago, again))
        places, turns = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        agos, agains = (np.repeat([part[i] for part in parts], [len(part[0]) for part in parts]) for i in (2, 3))
        order = np.argsort(turns, kind="stable")
        return Arrivals(plan.edges[places[order]], agos[order], agains[order])

    def _fates(self, t: int, plan: Plan) -> Fates:
        """Returns what becomes of round t, whose messages go along the edges of `plan`."""
        found = self._drawn.get(t)
        if found is None or found.edges is not plan.edges:
            found = self._drawn[t] = Fates.of(self.kinds, t, plan.edges, plan.graph.clients)
        return found

    def _forget(self, t: int) -> None:
        """Drops what rounds after round t will not ask for."""
        for other in [other for other in self._drawn if not max(1, self.reach) > t - other >= 0]:
            del self._drawn[other]

    def __str__(self) -> str:
        """The faults, as settings write them."""
        return "+".join(map(str, self.kinds))


def _apart(weights: sp.csr_array) -> sp.csr_array:
    """Returns the matrix with these weights beside the diagonal, and on it what makes each row's sum 1."""
    beside = weights - sp.diags_array(weights.diagonal())
    return sp.csr_array(beside + sp.diags_array(1.0 - beside.sum(axis=1)))
