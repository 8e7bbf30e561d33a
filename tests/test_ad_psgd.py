"""AD-PSGD: nobody waits, no step and no average is lost, and the sum over clients moves by steps alone."""

from functools import partial

import numpy as np
import pytest
import torch

from declora.clock import parse_clock
from declora.errors import ConfigError
from declora.methods import build_method
from declora.methods.ad_psgd import Turns
from declora.plan import Phase, Plan
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 6, 40


def test_all_that_are_as_fast_are_done_once_each_in_every_sweep_in_another_order():
    turns = Turns(np.full(5, 3), seed=1)
    order = [turns.at(t)[0] for t in range(40)]
    sweeps = [tuple(order[at : at + 5]) for at in range(0, 40, 5)]
    assert all(sorted(sweep) == list(range(5)) for sweep in sweeps)
    assert len(set(sweeps)) > 4
    assert {turns.at(t)[1] for t in range(40)} == {None}
    again = Turns(np.full(5, 3), seed=1)
    assert [again.at(t)[0] for t in (31, 2, 17)] == [order[t] for t in (31, 2, 17)]
    assert [Turns(np.full(5, 3), seed=2).at(t)[0] for t in range(5)] != order[:5]


def test_steps_that_take_no_time_are_everybodys():
    turns = Turns(np.full(5, 3), seed=1, clock=parse_clock("lognormal:step=0"))
    assert all(sorted(turns.at(5 * sweep + i)[0] for i in range(5)) == list(range(5)) for sweep in range(6))


def test_who_has_half_the_steps_is_done_twice_as_often_and_the_clock_says_when():
    turns = Turns(np.array([1, 2, 2]), seed=0, clock=parse_clock("lognormal:step=0.5"))
    found = [turns.at(t) for t in range(8)]
    assert [sorted(client for client, when in found if when == at) for at in (0.5, 1.0, 1.5, 2.0)] == [
        [0], [0, 1, 2], [0], [0, 1, 2],
    ]  # fmt: skip


def test_stragglers_are_as_many_and_as_slow_as_the_clock_says():
    """Of 1,500 turns a fifth is four times as long: their mean is 1.6, within three deviations of 1.2 / sqrt(1500)."""
    turns = Turns(np.array([1]), seed=3, clock=parse_clock("lognormal:step=1,stragglers=0.2,slower=4"))
    assert abs(turns.at(1499)[1] / 1500 - 1.6) < 3 * 1.2 / np.sqrt(1500)


def events(codec, count, *, topology="erdos-renyi:0.6"):
    """What each round did: who was done and its neighbour, its steps, and rows before and after, float64."""
    graph = Topology.build(topology, CLIENTS, seed=2)
    method, federation = build_method("ad-psgd"), federation_of(graph, codec=codec)
    federation = method.arrange(federation)
    alone = gossip_of(federation, rows_of(CLIENTS, COLUMNS), method=method)
    method.arrange(federation)  # what was planned had no steps
    state, whole = alone.state, alone.layout.whole
    for t in range(count):
        usual = Plan(t, (Phase(np.ones(CLIENTS, dtype=np.int64), whole),), whole, graph.round(t))
        plan = method.plan(usual, alone.layout)
        (done,) = np.flatnonzero(plan.steps)
        before = state.adapter.double().numpy()
        method.before_round(state, plan)
        begun = state.adapter[done].double().numpy()
        steps = rows_of(1, COLUMNS, seed=100 + t)[0]
        state.adapter[done] += steps
        inbox = alone.gossip.round(plan, state, method)
        method.after_round(state, plan, inbox)
        (partner,) = {int(j) for j in plan.edges.ravel()} - {int(done)}
        assert [done, partner] in graph.edges(t).tolist()
        yield int(done), partner, begun, steps.double().numpy(), before, state.adapter.double().numpy()


def test_it_is_a_queue_of_steps_from_what_was_and_averages_of_two_with_what_is():
    """Against the definition in float64: a client's steps begin at what it had after its turn before."""
    x = rows_of(CLIENTS, COLUMNS).double().numpy()
    begun, stale = x.copy(), 0
    for done, partner, start, steps, before, after in events("none", 30):
        np.testing.assert_allclose(start, begun[done], atol=1e-5)
        np.testing.assert_allclose(before, x, atol=1e-5)
        stale += not np.allclose(start, before[done])
        x[done] += steps
        x[[done, partner]] = x[[done, partner]].mean(0)
        begun[done] = x[done]
        np.testing.assert_allclose(after, x, atol=1e-5)
    assert stale > 10


@pytest.mark.parametrize("codec", ["q4", "q8", "randk:fraction=0.5"])
def test_the_sum_moves_by_steps_alone_whatever_the_codec_loses(codec):
    """Of 6 float32 values below 32, each rounded a few times by at most 2^-20."""
    for _, _, _, steps, before, after in events(codec, 12):
        np.testing.assert_allclose(after.sum(0), before.sum(0) + steps, atol=6 * 4 * 2**-20)


@pytest.fixture
def run(tiny_run):
    return partial(tiny_run, method="ad-psgd")


def test_a_run_counts_two_messages_a_round_and_the_seconds_of_who_was_done(run):
    result = run(rounds=8, clock="lognormal:step=0.1", codec="none")
    message = 96 + 4 * result.average.layout.columns
    assert (result.history["bytes_sent"] == 2 * message).all()
    np.testing.assert_allclose(result.history["simulated_seconds"], [0.2] * 4 + [0.4] * 4)
    steps = result.clients.groupby("client")["local_steps"].sum()
    assert steps.tolist() == [2 * 2] * 4


def test_of_one_client_it_is_local_training(run):
    alone, local = (run(method=m, clients=1, topology="complete") for m in ("ad-psgd", "local"))
    assert torch.equal(alone.average.row, local.average.row)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "q4+choco"}, "one client hears a message. Use a codec without a memory, e.g. codec='q4"),
        ({"mixer": "median", "topology": "complete"}, "mixer='median' would have no effect"),
        ({"attack": "sign-flip", "attackers": [1]}, "no rule can outvote it"),
        ({"topology": "exponential"}, "topology='exponential' has edges of one way"),
        ({"weights": "samples"}, "two clients meet in the middle"),
        ({"overlap": True}, "works on adapters after their steps"),
        ({"method": "fedavg+ad-psgd"}, "both 'fedavg' and 'ad-psgd' say who talks to whom"),
        ({"faults": "loss:p=0.1"}, "faults of the links of a graph"),
    ],
)
def test_what_makes_no_sense_for_two_is_refused(run, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(**settings)
