"""Faults: what is lost is lost on both ends, its weight stays at home, and the seed alone says what happens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from declora.errors import ConfigError
from declora.faults import parse_faults
from declora.faults.fates import Fates
from declora.plan import Arrivals, Columns
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of
from lossy import ALL, COLUMNS, LATE, ROUNDS, STRAY, beside, check_mean, check_rounds, pairs, plan_of

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
    text = f"{ALL if 'choco' in codec else LATE}+{STRAY}"
    for seed in range(3):
        check_mean(Topology.build("erdos-renyi:0.4", CLIENTS, seed=3), codec, seed, text)


def test_what_was_late_is_counted_when_it_comes_by_what_was_sent_then():
    gossip = gossip_of(federation_of("ring", clients=4, faults="delay:p=1,rounds=2"), rows := rows_of(4, COLUMNS))
    whole, sent, expected = Topology.build("ring", 4).weights(0).toarray(), [], rows.double().numpy()
    pairs_of = gossip.federation.topology.edges(0)
    edges = [Fates.of(gossip.federation.faults.kinds, t, pairs_of, 4).late for t in range(6)]
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


def test_copies_and_order_change_no_bit_and_cost_the_bytes_of_the_copies():
    plain, stray = (
        gossip_of(federation_of("complete", codec="q4+ef", faults=f"{LATE}{more}", clients=6), rows_of(6, COLUMNS))
        for more in ("", "+duplicate:p=0.5,rounds=2+reorder:p=0.9,rounds=0")
    )
    rows, again, size = rows_of(6, COLUMNS), rows_of(6, COLUMNS), plain.federation.codec.frame_bytes(COLUMNS)
    copies = repeated = stale = 0
    for t in range(ROUNDS):
        sent, plan = plain.round(t, rows).bytes_sent, stray.plan(t)
        arrivals, inbox = plan.arrivals, stray.round(t, again)
        assert torch.equal(rows, again)
        own = np.bincount(arrivals.edges[arrivals.again, 0], minlength=6)
        assert inbox.bytes_sent.tolist() == (sent + size * own).tolist()
        # A copy in the round in which its message counts finds the place taken; a later one is of a round that is over.
        counts = {(0, *pair) for pair in beside(plan.weights)}
        counts |= {(by, *pair) for by, weights in plan.late for pair in beside(weights)}
        placed = [
            (ago, *pair) in counts for ago, pair in zip(arrivals.ago.tolist(), arrivals.edges.tolist(), strict=True)
        ]
        assert inbox.unused["frames_repeated"] == (arrivals.again & placed).sum()
        assert sum(inbox.unused.values()) == arrivals.again.sum()
        copies, repeated = copies + own.sum(), repeated + inbox.unused["frames_repeated"]
        stale += inbox.unused["frames_stale"]
    assert min(copies, repeated, stale) > 10


def test_who_takes_a_message_takes_the_frame_that_comes_first_and_no_frame_of_another_round():
    federation = federation_of("complete", faults="duplicate:p=1,rounds=1+reorder:p=0.5,rounds=1", clients=5)
    gossip = gossip_of(federation, rows_of(5, COLUMNS))
    reception, draw = gossip.gossip.mail._reception, np.random.default_rng(0)
    gossip.round(0, rows_of(5, COLUMNS))
    wire, whole = gossip.gossip.mail.wire, Columns.all(COLUMNS)
    frames = wire.encode(1, rows_of(5, COLUMNS).numpy(), whole).copy()
    plan, checked, past = gossip.plan(1), wire.check(1, frames, whole), gossip.state.room("late")["frames"].copy()
    arrivals, found = plan.arrivals, set()
    assert len(set(arrivals.ago.tolist())) == 2
    for _ in range(10):
        order = draw.permutation(len(arrivals.ago))
        shuffled = Arrivals(*(part[order] for part in (arrivals.edges, arrivals.ago, arrivals.again)))
        taken = reception.take(replace(plan, arrivals=shuffled), frames, checked)
        found.add((frozenset(pairs(taken.edges)), taken.stale, taken.repeated))
        gossip.state.room("late")["frames"][:] = past
    assert found == {
        (frozenset(beside(plan.weights)), (arrivals.ago == 1).sum(), (arrivals.again & (arrivals.ago == 0)).sum())
    }
    # A frame that says it is of this round is taken for that, if it comes first, and then the proper one is a copy.
    gossip.state.room("late")["frames"][:, 0] = frames
    forged = reception.take(plan, frames, checked)
    assert (forged.stale, forged.repeated) == (0, len(arrivals.ago) - len(forged.edges))
    assert len(pairs(forged.edges)) == len(forged.edges)


def test_weights_of_frames_that_did_not_come_are_at_home_whatever_the_plan_says():
    federation = federation_of("ring", faults="duplicate:p=0.5,rounds=0", clients=4)
    gossip, rows = gossip_of(federation, rows_of(4, COLUMNS)), rows_of(4, COLUMNS)
    plan = gossip.plan(0)
    few = Arrivals(plan.arrivals.edges[:0], plan.arrivals.ago[:0], plan.arrivals.again[:0])
    inbox = gossip.gossip.mail.swap(replace(plan, arrivals=few), rows.numpy())
    np.testing.assert_array_equal(inbox.weights.toarray(), np.eye(4))


def test_as_many_come_again_and_out_of_turn_as_the_probability_says():
    topology, faults = (
        Topology.build("complete", 40),
        parse_faults("duplicate:p=0.1,rounds=1+reorder:p=0.2,rounds=3", seed=0),
    )
    records = [faults.strike(plan_of(topology, t)).record for t in range(20)]
    again, out = (
        sum(record[f"messages_{name}"] for record in records) / 31_200 for name in ("duplicated", "reordered")
    )
    lost = sum(record["messages_lost"] for record in records) / 31_200
    # Of the messages, 3 of 4 that are out of turn are lost, 0.15, and with either direction 1 - 0.85^2; 15,600 edges.
    assert lost == pytest.approx(1 - 0.85**2, abs=4 * (0.2775 * 0.7225 / 15_600) ** 0.5)
    assert out == pytest.approx(0.2, abs=4 * (0.16 / 31_200) ** 0.5)
    assert again == pytest.approx(0.1 * 0.85**2, abs=4 * (0.0723 * 0.9277 / 31_200) ** 0.5)


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
    assert "messages_duplicated" not in none.history


def test_a_run_records_what_came_again_and_has_the_bits_of_one_where_all_came_once(tiny_run):
    text = "+duplicate:p=0.5,rounds=1+reorder:p=0.5,rounds=0"
    once, again = (tiny_run(faults=f"loss:p=0.2{more}", codec="q4+choco") for more in ("", text))
    for i in range(4):
        assert torch.equal(once.client(i).row, again.client(i).row)
    history = again.history
    assert history["messages_lost"].tolist() == once.history["messages_lost"].tolist()
    assert (history["messages_duplicated"] > 0).all()
    assert (history["messages_reordered"] > 0).all()
    assert (
        history["frames_repeated"].iloc[0] + history["frames_stale"].iloc[1]
        <= history["messages_duplicated"].iloc[0] * 2
    )
    assert history["frames_stale"].iloc[0] == 0
    assert history["bytes_total"].iloc[-1] > once.history["bytes_total"].iloc[-1]
    assert "frames_stale" not in once.history


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
        ({"faults": "duplicate:p=0.1,rounds=101"}, "at most 1e"),
        ({"faults": "reorder"}, "p"),
        ({"faults": "duplicate:p=0.1", "topology": "base:1"}, "Use rounds=0"),
        ({"faults": "reorder:p=0.1", "method": "rolora"}, "Use rounds=0"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_with_faults_is_refused(tiny_run, settings, match):
    with pytest.raises(ConfigError, match=match):
        tiny_run(**settings)
