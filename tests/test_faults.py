"""Faults: what is lost is lost on both ends, its weight stays at home, and the seed alone says what happens."""

import numpy as np
import pytest
import torch

from declora.errors import ConfigError
from declora.faults import parse_faults
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of
from lossy import ALL, COLUMNS, LATE, ROUNDS, check_mean, check_rounds, pairs, plan_of

CLIENTS, HEADER = 12, 96


@pytest.mark.parametrize(("name", "seeds"), [("ring", 5), ("erdos-renyi:0.4", 40), ("complete", 5)])
def test_a_round_with_faults_is_a_round_on_a_smaller_graph_and_the_log_is_the_same_twice(name, seeds):
    topology = Topology.build(name, CLIENTS, seed=3)
    logs = [check_rounds(topology, seed) for seed in range(seeds)]
    assert all(log != logs[0] for log in logs[1:])


def test_other_seeds_and_rounds_have_other_faults():
    topology = Topology.build("complete", CLIENTS)
    found = {
        parse_faults("loss:p=0.5", seed=seed).strike(plan_of(topology, t)).record["faults_digest"]
        for seed in range(5)
        for t in range(5)
    }
    assert len(found) == 25


def test_as_many_messages_get_lost_as_the_probability_says():
    topology, faults = Topology.build("complete", 40), parse_faults("loss:p=0.1", seed=0)
    lost = sum(len(faults.strike(plan_of(topology, t)).plan.lost) for t in range(20)) / (20 * 40 * 39)
    # An edge is lost with 1 - 0.9^2 = 0.19, both ways; of 15,600 edges the share has a deviation of 0.0031.
    assert lost == pytest.approx(0.19, abs=4 * 0.0031)


def test_who_goes_away_is_back_after_so_many_rounds():
    faults = parse_faults("dropout:p=0.05,rounds=3", seed=1)
    topology = Topology.build("ring", 200)
    away = np.array([faults.strike(plan_of(topology, t)).away for t in range(30)])
    begins = away[1:] & ~away[:-1]
    for t, client in np.argwhere(begins).tolist():
        assert away[t + 1 : t + 4, client].all()
    # Away now: gone in one of three rounds, 1 - 0.95^3 = 0.143; 200 clients of 10 rounds apart by 3 are independent.
    assert away[2::3].mean() == pytest.approx(0.143, abs=4 * (0.143 * 0.857 / 2000) ** 0.5)


def test_a_partition_lasts_its_rounds_and_nothing_crosses_it():
    topology, faults = Topology.build("complete", 9), parse_faults("partition:start=3,rounds=2,parts=3", seed=0)
    lost = [pairs(faults.strike(plan_of(topology, t)).plan.lost) for t in range(6)]
    assert [len(found) for found in lost] == [0, 0, 54, 54, 0, 0]  # 9 * 6 messages between three parts of three
    behind = [len(faults.strike(plan_of(topology, t)).plan.behind) for t in range(6)]
    assert behind == [0, 0, 0, 0, 54, 0]


@pytest.mark.parametrize("codec", ["none", "q4", "q4+choco", "q4+ef", "topk:fraction=0.2+choco"])
def test_the_mean_over_clients_is_kept_whatever_is_lost(codec):
    check_mean(Topology.build("erdos-renyi:0.4", CLIENTS, seed=3), codec, 0, ALL if "choco" in codec else LATE)


def test_what_was_late_is_counted_when_it_comes_by_what_was_sent_then():
    gossip = gossip_of(federation_of("ring", clients=4, faults="delay:p=1,rounds=2"), rows := rows_of(4, COLUMNS))
    whole, sent, expected = Topology.build("ring", 4).weights(0).toarray(), [], rows.double().numpy()
    edges = [gossip.federation.faults._lateness(t, gossip.plan(t).edges, 4) for t in range(6)]
    pairs_of = gossip.plan(0).edges
    for t in range(6):
        sent.append(rows.double().numpy().copy())
        gossip.round(t, rows)
        expected = sent[t].copy()
        for by in (1, 2):
            if t >= by:
                for (sender, receiver), late in zip(pairs_of.tolist(), edges[t - by].tolist(), strict=True):
                    if late == by:
                        weight = whole[receiver, sender] * np.sin(np.pi / (2 * (2 * by + 1)))
                        expected[receiver] += weight * (sent[t - by][sender] - sent[t - by][receiver])
        np.testing.assert_allclose(rows.double().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["ring", "complete", "star"])
@pytest.mark.parametrize("rounds", [1, 4])
def test_clients_agree_though_everything_is_late(name, rounds):
    faults = f"delay:p=1,rounds={rounds}"
    gossip = gossip_of(federation_of(name, clients=8, faults=faults), rows := rows_of(8, COLUMNS))
    mean = rows.mean(dim=0)
    for t in range(400):  # a star's slowest difference falls by 1/8 of 0.17 to 0.5 each
        gossip.round(t, rows)
    torch.testing.assert_close(rows, mean.expand_as(rows), atol=1e-3, rtol=0)


def test_the_sums_of_push_sum_are_kept_whatever_is_lost():
    graph = Topology.build("exponential", 10, column_stochastic=True)
    gossip = gossip_of(federation_of(graph, mixer="push-sum", faults=ALL), rows := rows_of(10, COLUMNS))
    total = rows.double().sum(dim=0).numpy()
    for t in range(ROUNDS):
        gossip.round(t, rows)
        mixer = gossip.federation.mixer
        np.testing.assert_allclose(mixer.numerators.astype(float).sum(axis=0), total, atol=1e-5)
        assert mixer.weights.sum() == pytest.approx(10)
        assert mixer.weights.min() > 0


def test_bytes_are_those_of_what_was_sent_and_of_what_brings_copies_level():
    federation = federation_of("ring", codec="q8+choco", faults="partition:start=2,rounds=1,parts=2", clients=6)
    gossip, rows = gossip_of(federation, torch.zeros(6, COLUMNS)), rows_of(6, COLUMNS)
    sent = [gossip.round(t, rows).bytes_sent for t in range(4)]
    message = federation.codec.frame_bytes(COLUMNS)
    assert sent[0].tolist() == sent[1].tolist() == sent[3].tolist() == [2 * message] * 6  # who loses one has sent it
    cut = np.bincount(gossip.plan(1).lost[:, 0], minlength=6)
    assert cut.sum() > 0
    assert sent[2].tolist() == (2 * message + cut * (HEADER + 4 * COLUMNS)).tolist()


@pytest.mark.parametrize("memory", ["choco", "ef"])
def test_a_memory_does_not_move_on_by_what_nobody_heard(memory):
    federation = federation_of("ring", codec=f"q4+{memory}", faults="loss:p=1", clients=6)
    gossip, rows = gossip_of(federation, rows_of(6, COLUMNS)), rows_of(6, COLUMNS, seed=1)
    before, had = gossip.memory.state.copy(), rows.clone()
    gossip.round(0, rows)
    np.testing.assert_array_equal(gossip.memory.state, before)
    torch.testing.assert_close(rows, had, atol=0, rtol=0)


def test_a_client_that_hears_too_few_for_a_robust_rule_keeps_its_own():
    federation = federation_of("complete", mixer="trimmed-mean:f=1", faults="loss:p=0.6", clients=5)
    gossip, rows = gossip_of(federation, rows_of(5, COLUMNS)), rows_of(5, COLUMNS)
    kept = 0
    for t in range(8):
        before = rows.clone()
        heard = np.diff(gossip.plan(t).weights.indptr)
        gossip.round(t, rows)
        for client in np.flatnonzero(heard == 1):
            assert torch.equal(rows[client], before[client])
            kept += 1
        assert set(heard) <= {1, 3, 4, 5}
    assert kept > 0


def test_nothing_lost_is_the_run_without_faults_to_the_bit_and_a_client_away_does_not_move(tiny_run):
    plain, none, gone = (
        tiny_run(faults=faults, codec="q4+choco") for faults in (None, "loss:p=0+dropout:p=0", "dropout:p=1,rounds=9")
    )
    plain_rows, none_rows, gone_rows = (
        torch.stack([result.client(i).row for i in range(4)]) for result in (plain, none, gone)
    )
    assert torch.equal(plain_rows, none_rows)
    assert torch.equal(gone_rows, gone_rows[:1].expand_as(gone_rows))
    assert gone.history["clients_away"].tolist() == [4] * 3
    assert gone.history["bytes_total"].iloc[-1] == 0
    assert none.history["messages_lost"].tolist() == [0] * 3
    assert "messages_lost" not in plain.history


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"faults": "loss"}, "loss"),
        ({"faults": "loss:p=1.5"}, "at most 1"),
        ({"faults": "losss:p=0.1"}, "Did you mean 'loss'"),
        ({"faults": "loss:p=0.1+loss:p=0.2"}, "twice"),
        ({"faults": "partition:rounds=3"}, "start"),
        ({"faults": "loss:p=0.1", "method": "fedavg"}, "faults of the links of a graph"),
        ({"faults": "loss:p=0.1", "method": "local"}, "faults of the links of a graph"),
        ({"faults": "loss:p=0.1", "method": "rw-lora"}, "faults of the links of a graph"),
        ({"faults": "loss:p=0.1", "topology": "exponential"}, "Use mixer='push-sum'"),
        ({"faults": "delay:p=0.1", "mixer": "median", "topology": "complete"}, "combines whole values"),
        ({"faults": "delay:p=0.1", "method": "decaf"}, "combines whole values"),
        ({"faults": "delay:p=0.1", "topology": "base:1"}, "by one weight"),
        ({"faults": "delay:p=0.1", "codec": "q4+choco"}, "in the order of rounds"),
        ({"faults": "loss:p=0.1", "method": "rolora", "codec": "q4+choco"}, "copies of the same columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_with_faults_is_refused(tiny_run, settings, match):
    with pytest.raises(ConfigError, match=match):
        tiny_run(**settings)
