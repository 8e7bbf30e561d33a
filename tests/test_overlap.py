"""Messages that go while local steps are taken: what clients come to, and what cannot be combined with it."""

import numpy as np
import pytest
import torch

import declora
from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.prepare import plan_federation
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 12, 60


def rounds_of(codec, steps, *, mixer="linear"):
    """Rows before and after rounds of these local steps, float64."""
    federation = federation_of(Topology.build("ring", CLIENTS), codec=codec, mixer=mixer, overlap=True)
    rows = rows_of(CLIENTS, COLUMNS)
    alone = gossip_of(federation, torch.zeros(CLIENTS, COLUMNS))
    alone.state.rooms["adapter"]["adapter"] = rows
    for t, step in enumerate(steps):
        before = rows.double().numpy()
        with alone.gossip.meanwhile(alone.plan(t), alone.state, alone.method):
            rows += step
        inbox = alone.gossip.round(alone.plan(t), alone.state, alone.method)
        yield before, rows.double().numpy(), inbox


STEPS = [rows_of(CLIENTS, COLUMNS, seed=seed) for seed in (1, 2, 3)]


def test_clients_move_by_their_steps_and_by_what_gossip_does_to_what_they_had_before():
    weights = Topology.build("ring", CLIENTS).weights(0).toarray()
    for step, (before, after, inbox) in zip(STEPS, rounds_of("none", STEPS), strict=True):
        np.testing.assert_allclose(after, weights @ before + step.double().numpy(), atol=2e-6)
        assert inbox.bytes_sent.tolist() == [2 * (96 + 4 * COLUMNS)] * CLIENTS


@pytest.mark.parametrize("codec", ["q4", "q2+ef", "q4+choco"])
def test_the_mean_moves_by_the_mean_of_the_steps_whatever_the_codec_loses(codec):
    """Each of 12 sums of float32 values below 16 errs by at most half of 2^-20, each of few operations."""
    for step, (before, after, _) in zip(STEPS, rounds_of(codec, STEPS), strict=True):
        np.testing.assert_allclose(after.mean(0), before.mean(0) + step.double().numpy().mean(0), atol=4 * 2**-20)


def test_a_robust_rule_looks_at_what_clients_had_before_their_steps():
    for step, (before, after, _) in zip(STEPS[:1], rounds_of("none", STEPS[:1], mixer="median"), strict=True):
        heard = np.stack([np.roll(before, by, axis=0) for by in (-1, 0, 1)])
        np.testing.assert_allclose(after, np.median(heard, axis=0) + step.double().numpy(), atol=2e-6)


def test_in_the_first_round_there_is_nothing_to_even_out(tiny_run):
    """All begin with the same adapter, so that steps are all that happens; later there is."""
    settings = {"codec": "none", "seed": 3}
    for rounds, equal in ((1, True), (2, False)):
        talking, alone = (
            tiny_run(rounds=rounds, **settings, **more) for more in ({"overlap": True}, {"method": "local"})
        )
        assert torch.equal(talking._outcome.rows, alone._outcome.rows) == equal
    assert talking.history["bytes_sent"].gt(0).all()


def test_messages_of_what_went_before_are_less_far_apart_in_the_first_round_than_those_after_the_steps(tiny_run):
    before, after = (tiny_run(rounds=1, codec="none", overlap=overlap).history for overlap in (True, False))
    assert before["consensus_distance"].iloc[0] > after["consensus_distance"].iloc[0] > 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"method": "fedavg"}, "begin the steps of a round from one mean"),
        ({"method": "decaf"}, "'decaf' works on adapters after their steps"),
        ({"method": "dp:sigma=1"}, "works on adapters after their steps"),
        ({"mixer": "push-sum", "topology": "exponential"}, "'push-sum' counts steps among what is sent"),
    ],
)
def test_what_needs_the_steps_first_is_refused_before_anything_is_loaded(settings, why):
    with pytest.raises(ConfigError, match=f"^overlap=True sends what clients have before their steps, but .*{why}"):
        plan_federation(SimulationConfig(overlap=True, model="no/such-model", **settings))


@pytest.mark.parametrize("method", ["local", "centralized"])
def test_those_who_do_not_talk_have_nothing_to_overlap(method):
    plan_federation(SimulationConfig(overlap=True, method=method))
    assert declora.SimulationConfig(overlap=True, method=method).overlap
