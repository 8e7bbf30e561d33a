"""What must hold of rounds in which things go wrong, whatever the seed."""

import numpy as np

from declora.faults import parse_faults
from declora.plan import Columns, Phase, Plan
from federations import federation_of, gossip_of, rows_of

ALL = "loss:p=0.2+dropout:p=0.1,rounds=3+partition:start=4,rounds=3,parts=3"
LATE = f"{ALL}+delay:p=0.4,rounds=3"
COLUMNS, ROUNDS, STEPS = 60, 12, 2


def plan_of(topology, t) -> Plan:
    """Round t in which nothing goes wrong."""
    whole = Columns.all(COLUMNS)
    phase = Phase(np.full(topology.clients, STEPS), whole)
    return Plan(t, (phase,), whole, topology.weights(t), topology.edges(t))


def pairs(edges) -> set[tuple[int, int]]:
    return set(map(tuple, np.asarray(edges).tolist()))


def check_rounds(topology, seed, text=LATE):
    """Checks that each round is one on a smaller graph, and the log the same twice; returns the log."""
    faults, log, waiting = parse_faults(text, seed=seed), [], []
    for t in range(ROUNDS):
        struck = faults.strike(plan_of(topology, t))
        matrix, away = struck.plan.weights.toarray(), struck.away
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
        assert matrix.min() >= 0
        heard = {(i, j) for j, i in zip(*np.nonzero(matrix), strict=True) if i != j}
        sent, lost = pairs(struck.plan.edges), pairs(struck.plan.lost)
        assert sent == {(i, j) for i, j in pairs(topology.edges(t)) if not away[i]}
        delayed = pairs(struck.plan.delayed)
        assert heard == sent - lost - delayed
        assert not lost & delayed
        for by, late in struck.plan.late:
            arriving = late.toarray()
            np.testing.assert_allclose(arriving, arriving.T, atol=1e-15)
            np.testing.assert_allclose(arriving.sum(axis=1), 1, atol=1e-12)
            came = {(i, j) for j, i in zip(*np.nonzero(arriving), strict=True) if i != j}
            assert came <= waiting[t - by]
            waiting[t - by] -= came  # nothing arrives twice
        waiting.append(delayed)
        assert not any(away[i] or away[j] for i, j in heard)
        assert struck.plan.steps.tolist() == np.where(away, 0, STEPS).tolist()
        log.append(struck.record)
    again = [parse_faults(text, seed=seed).strike(plan_of(topology, t)).record for t in reversed(range(ROUNDS))]
    assert log == again[::-1]
    return log


def check_mean(topology, codec, seed, text=ALL):
    """Checks that gossip keeps the mean over clients, whatever gets lost."""
    clients = topology.clients
    rows = rows_of(clients, COLUMNS, seed=seed)
    gossip = gossip_of(federation_of(topology, codec=codec, faults=text, clients=clients, seed=seed), rows)
    before = rows.double().mean(dim=0)
    for t in range(ROUNDS):
        gossip.round(t, rows)
    # Each round rounds 12 numbers of about 1 to float32, 6e-8 each way.
    np.testing.assert_allclose(rows.double().mean(dim=0), before, atol=1e-6, rtol=0)
