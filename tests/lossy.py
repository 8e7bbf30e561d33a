"""What must hold of rounds in which things go wrong, whatever the seed."""

import numpy as np

from declora.faults import parse_faults
from declora.plan import Columns, Phase, Plan
from federations import federation_of, gossip_of, rows_of

ALL = "loss:p=0.2+dropout:p=0.1,rounds=3+partition:start=4,rounds=3,parts=3"
STRAY = "duplicate:p=0.3,rounds=2+reorder:p=0.2,rounds=2"
LATE = f"{ALL}+delay:p=0.4,rounds=3"
COLUMNS, ROUNDS, STEPS = 60, 12, 2


def plan_of(topology, t) -> Plan:
    """Round t in which nothing goes wrong."""
    whole = Columns.all(COLUMNS)
    phase = Phase(np.full(topology.clients, STEPS), whole)
    return Plan(t, (phase,), whole, topology.round(t))


def pairs(edges) -> set[tuple[int, int]]:
    return set(map(tuple, np.asarray(edges).tolist()))


def check_rounds(topology, seed, text=f"{LATE}+{STRAY}"):
    """Checks that each round is one on a smaller graph, and the log the same twice; returns the log."""
    faults, log, waiting, came = parse_faults(text, seed=seed), [], [], Came()
    for t in range(ROUNDS):
        struck = faults.strike(plan_of(topology, t))
        matrix, away = struck.plan.weights.toarray(), struck.away
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
        assert matrix.min() >= 0
        heard = beside(struck.plan.weights)
        sent, lost = pairs(struck.plan.edges), pairs(struck.plan.lost)
        assert sent == {(i, j) for i, j in pairs(topology.edges(t)) if not away[i]}
        delayed = pairs(struck.plan.delayed)
        assert heard == sent - lost - delayed
        assert not lost & delayed
        for by, late in struck.plan.late:
            arriving = late.toarray()
            np.testing.assert_allclose(arriving, arriving.T, atol=1e-15)
            np.testing.assert_allclose(arriving.sum(axis=1), 1, atol=1e-12)
            assert by <= faults.longest
            assert beside(late) <= waiting[t - by]
            waiting[t - by] -= beside(late)  # nothing arrives twice
        waiting.append(delayed)
        assert not any(away[i] or away[j] for i, j in heard)
        assert struck.plan.steps.tolist() == np.where(away, 0, STEPS).tolist()
        came.check(struck, faults)
        log.append(struck.record)
    anew = parse_faults(text, seed=seed)
    assert log == [anew.strike(plan_of(topology, t)).record for t in reversed(range(ROUNDS))][::-1]
    return log


class Came:
    """Which frames came so far, by the round, sender and receiver of their message."""

    def __init__(self):
        self.first, self.again, self.lost = set(), set(), set()

    def check(self, struck, faults):
        """Checks that each frame of a round is what counts in it, a copy of what came, or one that was overtaken."""
        plan, arrivals = struck.plan, struck.plan.arrivals
        self.lost |= {(plan.event, *pair) for pair in pairs(plan.lost)}
        counts = {(plan.event, *pair) for pair in beside(plan.weights)}
        counts |= {(plan.event - by, *pair) for by, weights in plan.late for pair in beside(weights)}
        frames = list(zip((plan.event - arrivals.ago).tolist(), *arrivals.edges.T.tolist(), strict=True))
        originals = [frame for frame, again in zip(frames, arrivals.again, strict=True) if not again]
        copies = [frame for frame, again in zip(frames, arrivals.again, strict=True) if again]
        overtaken = set(originals) - counts
        assert counts <= set(originals)
        assert overtaken <= self.lost
        assert all(t < plan.event for t, *_ in overtaken)
        assert len(set(originals)) == len(originals)
        assert not self.first & set(originals)
        self.first |= set(originals)
        assert len(set(copies)) == len(copies)
        assert not self.again & set(copies)
        self.again |= set(copies)
        assert not self.lost & set(copies)
        assert arrivals.ago.max(initial=0) <= faults.reach
        assert not struck.away[arrivals.edges].any()


def beside(weights):
    """The (sender, receiver) pairs of the weights beside the diagonal."""
    return {(i, j) for j, i in zip(*map(np.ndarray.tolist, weights.nonzero()), strict=True) if i != j}


def check_mean(topology, codec, seed, text=f"{ALL}+{STRAY}"):
    """Checks that gossip keeps the mean over clients, whatever gets lost, and takes each message once.

    And that of public copies each receiver has the sender's own when something is added to it.
    """
    clients = topology.clients
    rows = rows_of(clients, COLUMNS, seed=seed)
    gossip = gossip_of(federation_of(topology, codec=codec, faults=text, clients=clients, seed=seed), rows)
    before, copies = rows.double().mean(dim=0), {}
    for t in range(ROUNDS):
        plan, memory = gossip.plan(t), gossip.memory
        public = memory.state.copy() if memory.needs_static_graph else None
        inbox = gossip.round(t, rows)
        counted = sum(len(beside(weights)) for weights in (plan.weights, *(late for _, late in plan.late)))
        assert sum(inbox.unused.values()) == len(plan.arrivals.ago) - counted
        if public is not None:
            level = pairs(plan.behind)
            for sender, receiver in beside(plan.weights):
                if (sender, receiver) not in level and t:
                    np.testing.assert_array_equal(copies[sender, receiver], public[sender])
                copies[sender, receiver] = memory.state[sender].copy()
    # Each round rounds 12 numbers of about 1 to float32, 6e-8 each way.
    np.testing.assert_allclose(rows.double().mean(dim=0), before, atol=1e-6, rtol=0)
