"""Attacks: what is sent is what they say, plain averaging breaks under it, robust rules do not."""

import numpy as np
import pytest
import torch

from declora import _bridge
from declora.attacks import ATTACKS, parse_attack
from declora.codec import CODECS, parse_codec
from declora.errors import CodecError, ConfigError, FrameError
from declora.exchange import Delivery, LocalExchange
from declora.gossip import Gossip
from declora.methods import Federation
from declora.mixer import parse_mixer
from declora.topology import Topology

CLIENTS, COLUMNS = 16, 64
ATTACKERS = [3, 11]
HONEST = [client for client in range(CLIENTS) if client not in ATTACKERS]


def federation_of(mixer="linear", attack=None, codec="none", topology="random-regular:6", exchange=None):
    rule = parse_mixer(mixer)
    graph = Topology.build(topology, CLIENTS, seed=1)
    rule.check(graph)
    lies = attack and parse_attack(attack, ATTACKERS, clients=CLIENTS, seed=0)
    shards = tuple(np.arange(1) for _ in range(CLIENTS))
    return Federation(shards, 1, graph, parse_codec(codec), exchange or LocalExchange(), rule, lies)


def gossip_of(federation):
    return Gossip(federation, torch.zeros(CLIENTS, COLUMNS), gamma=None, manifest=b"m" * 16, seed=0)


def rows_of(seed=0):
    """Values around 5, so that an attack towards 0 is one."""
    return 5 + torch.randn(CLIENTS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def distance_after(rounds=30, **settings):
    """Root mean square distance of the worst honest client from the honest mean at the start, whose spread is 1."""
    rows, gossip = rows_of(), gossip_of(federation_of(**settings))
    mean = rows[HONEST].double().mean(0)
    for t in range(rounds):
        gossip.round(t, rows)
    return float((rows[HONEST].double() - mean).square().mean(1).sqrt().max())


ROBUST = ["clipped:f=2", "clipped:tau=1", "trimmed-mean:f=2", "median", "krum:f=2", "multi-krum:f=2", "nna:f=2"]
BREAKING = ["sign-flip:scale=10", "alie:scale=20", "ipm:scale=10", "gaussian:scale=30"]


@pytest.mark.parametrize("attack", BREAKING)
def test_plain_averaging_breaks(attack):
    """The control: without it the next test would show nothing."""
    assert distance_after(attack=attack) > 3


@pytest.mark.parametrize("attack", [*BREAKING, "alie", "mimic", "nan", "inf"])
@pytest.mark.parametrize("mixer", ROBUST)
def test_robust_rules_stay_with_the_honest(attack, mixer):
    """Krum ends at one honest client's value, about 1 from the mean; the others average and end nearer."""
    assert distance_after(attack=attack, mixer=mixer) < 1.2


@pytest.mark.parametrize("codec", ["q8", "q2+choco", "q8+ef"])
def test_robust_rules_stay_with_the_honest_under_lossy_codecs(codec):
    assert distance_after(attack="ipm:scale=10", mixer="clipped:f=2", codec=codec) < 1.2
    assert distance_after(attack="ipm:scale=10", mixer="linear", codec=codec) > 3


def lies(attack, t=0, rows=None):
    rows = rows_of().numpy() if rows is None else rows
    before = rows.copy()
    sent = parse_attack(attack, ATTACKERS, clients=CLIENTS, seed=7).sent(t, rows)
    assert np.array_equal(rows, before), "the attackers' own adapters were changed"
    assert np.array_equal(sent[HONEST], rows[HONEST]), "an honest row was changed"
    assert sent.dtype == np.float32
    return sent[ATTACKERS]


def test_each_attack_sends_what_it_says():
    rows = rows_of().numpy()
    honest = rows[HONEST].astype(np.float64)
    np.testing.assert_allclose(lies("sign-flip:scale=3"), -3 * rows[ATTACKERS], rtol=1e-6)
    np.testing.assert_allclose(lies("sign-flip"), -rows[ATTACKERS])
    np.testing.assert_allclose(lies("ipm:scale=0.5"), np.tile(-0.5 * honest.mean(0), (2, 1)), rtol=1e-5)
    alie = honest.mean(0) + 1.5 * honest.std(0, ddof=1)
    np.testing.assert_allclose(lies("alie"), np.tile(alie, (2, 1)), rtol=1e-5)
    np.testing.assert_array_equal(lies("mimic"), rows[[0, 0]])
    np.testing.assert_array_equal(lies("mimic:target=5"), rows[[5, 5]])
    np.testing.assert_array_equal(lies("nan"), rows[ATTACKERS])


def test_gaussian_noise_is_a_function_of_seed_round_and_client():
    first = lies("gaussian:scale=10")
    assert np.array_equal(first, lies("gaussian:scale=10"))
    assert not np.array_equal(first, lies("gaussian:scale=10", t=1))
    assert not np.array_equal(first[0], first[1])
    # 128 values: the standard deviation of a sample has a standard error of 1 / sqrt(256) of itself, here 4 of them.
    assert first.std() == pytest.approx(10, rel=4 / 16)


@pytest.mark.parametrize("attack", ["nan", "inf"])
@pytest.mark.parametrize("codec", [*CODECS, "q2+rans"])
def test_forged_frames_are_refused_for_their_content_not_their_checksum(codec, attack):
    core = _bridge.Codec(codec, shapes=[(8, COLUMNS // 8)])
    frames = np.empty((CLIENTS, 96 + core.payload_bytes(COLUMNS)), dtype=np.uint8)
    names = {"run_id": b"r" * 16, "manifest": b"m" * 16, "round": 0, "senders": np.arange(CLIENTS, dtype=np.uint32)}
    _bridge.encode_frames(core, rows_of(), frames, seed=1, **names)
    honest = frames.copy()
    parse_attack(attack, ATTACKERS, clients=CLIENTS, seed=0).forge(core, frames)
    assert np.array_equal(frames[HONEST], honest[HONEST])
    for client in ATTACKERS:
        one = names | {"senders": names["senders"][client : client + 1]}
        with pytest.raises(FrameError, match="frame 0: payload: "):
            _bridge.check_frames(core, frames[client : client + 1], COLUMNS, **one)


@pytest.mark.parametrize("codec", ["none", "q4", "q3+ef", "q2+choco"])
@pytest.mark.parametrize("mixer", ["linear", "median", "push-sum"])
def test_refused_clients_sit_the_round_out_and_are_counted(mixer, codec):
    rows, before = rows_of(), rows_of()
    traffic = gossip_of(federation_of(mixer, "nan", codec)).round(0, rows)
    assert np.flatnonzero(traffic.refused).tolist() == ATTACKERS
    assert torch.isfinite(rows).all()
    assert not torch.equal(rows[HONEST], before[HONEST])
    if mixer == "linear":
        # V01 in float32, as in test_gossip: the honest mix among themselves.
        assert (rows[HONEST].double().mean(0) - before[HONEST].double().mean(0)).abs().max() < 30 * 2.0**-24


def test_attackers_take_the_honest_mean_for_their_own_so_that_their_lies_do_not_grow_on_them():
    rows = rows_of()
    gossip = gossip_of(federation_of("median", "sign-flip:scale=10"))
    for t in range(10):
        gossip.round(t, rows)
    mean = rows[HONEST].double().mean(0).float()
    assert torch.equal(rows[3], rows[11])
    torch.testing.assert_close(rows[3], mean, atol=1e-6, rtol=0)


def test_without_refusals_an_attack_changes_nothing_for_those_who_do_not_hear_it():
    """Honest frames are the same bytes with and without attackers: client 0 of a ring hears 1 and 15 only."""
    plain, attacked = rows_of(), rows_of()
    gossip_of(federation_of(topology="ring", codec="q4")).round(0, plain)
    gossip_of(federation_of(topology="ring", codec="q4", attack="gaussian:scale=9")).round(0, attacked)
    hears = {c for a in ATTACKERS for c in (a - 1, a, a + 1)}
    quiet = [c for c in range(CLIENTS) if c not in hears]
    assert torch.equal(plain[quiet], attacked[quiet])
    assert not torch.equal(plain[2], attacked[2])


class Damaged(LocalExchange):
    """Flips a bit of client 5's message."""

    def deliver(self, frames, sizes, edges):
        frames = frames.copy()
        frames[5, 130] ^= 1
        return Delivery(frames, super().deliver(frames, sizes, edges).bytes_sent)


def test_damage_is_survived_where_somebody_guards_against_it_and_is_an_error_where_nobody_does():
    for mixer in ROBUST:
        rows, before = rows_of(), rows_of()
        traffic = gossip_of(federation_of(mixer, exchange=Damaged())).round(0, rows)
        assert np.flatnonzero(traffic.refused).tolist() == [5]
        assert torch.equal(rows[5], before[5])
    for mixer in ("linear", "push-sum"):
        with pytest.raises(FrameError, match="5"):
            gossip_of(federation_of(mixer, exchange=Damaged())).round(0, rows_of())


def test_a_lie_that_no_codec_carries_is_named():
    with pytest.raises(CodecError, match=r"x\[3, \d+\]=.* cannot be encoded"):
        gossip_of(federation_of(attack="sign-flip:scale=1e6", codec="fp16")).round(0, rows_of())


@pytest.mark.parametrize(
    ("attack", "attackers", "message"),
    [
        ("sing-flip", 1, "Did you mean 'sign-flip'"),
        ("alie:z=1", 1, "option of attack alie='z'"),
        ("alie:scale=0", 1, "scale='0' must be a number above 0"),
        ("nan:scale=2", 1, "takes no options"),
        ("mimic:target=3", [3], "attacks itself"),
        ("mimic:target=16", [3], "0..15"),
        ("alie", 0, "attackers=0"),
        ("alie", 16, "at most 15"),
        ("alie", True, "attackers=True"),
        ("alie", [], "each once"),
        ("alie", [1, 1], "each once"),
        ("alie", [16], r"0\.\.15"),
        ("alie", [-1], r"0\.\.15"),
        ("alie", [1.5], "attackers="),
        ("alie", "3", "attackers='3'"),
        ("alie", list(range(16)), "Leave somebody honest"),
    ],
)
def test_impossible_attacks_are_refused(attack, attackers, message):
    with pytest.raises(ConfigError, match=message):
        parse_attack(attack, attackers, clients=CLIENTS, seed=0)


def test_the_seed_chooses_the_attackers():
    chosen = [parse_attack("alie", 5, clients=CLIENTS, seed=seed).attackers for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(set(clients)) == 5 and clients == tuple(sorted(clients)) for clients in chosen)


def test_attacks_are_written_back():
    for text in ("sign-flip:scale=10", "alie:scale=1.5", "mimic", "mimic:target=2", "nan", "inf", "gaussian:scale=1"):
        assert str(parse_attack(text, [5], clients=CLIENTS, seed=0)) == text
    assert set(ATTACKS) == {"sign-flip", "alie", "ipm", "gaussian", "mimic", "nan", "inf"}
