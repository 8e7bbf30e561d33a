"""Attacks by bytes: what is refused for its content or its header, and what passes and must be borne."""

import re

import numpy as np
import pytest
import torch

from declora import _bridge
from declora.attacks import parse_attack
from declora.codec import CODECS, parse_codec
from declora.errors import CodecError, FrameError
from federations import Damaged, Recorded, federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 16, 64
ATTACKERS = [3, 11]
HONEST = [client for client in range(CLIENTS) if client not in ATTACKERS]
NAMES = {
    "run_id": b"r" * 16,
    "manifest": b"m" * 16,
    "round": 0,
    "senders": np.arange(CLIENTS, dtype=np.uint32),
}


def encoded(codec, rows):
    core = _bridge.Codec(codec, shapes=[(8, COLUMNS // 8)])
    frames = np.empty((CLIENTS, 96 + core.payload_bytes(COLUMNS)), dtype=np.uint8)
    _bridge.encode_frames(core, rows, frames, seed=1, **NAMES)
    return core, frames


def attack_of(text):
    attack = parse_attack(text, ATTACKERS, clients=CLIENTS, seed=0)
    attack.start((), {})
    return attack


def attacked(attack, mixer="median", codec="none", **settings):
    federation = federation_of(
        "random-regular:6", clients=CLIENTS, mixer=mixer, codec=codec, attack=attack, attackers=ATTACKERS, **settings
    )
    return gossip_of(federation, torch.zeros(CLIENTS, COLUMNS))


@pytest.mark.parametrize("attack", ["nan", "inf"])
@pytest.mark.parametrize("codec", [*CODECS, "q2+rans"])
def test_forged_frames_are_refused_for_their_content_not_their_checksum(codec, attack):
    core, frames = encoded(codec, rows_of(CLIENTS, COLUMNS, centre=5))
    honest = frames.copy()
    attack_of(attack).forge(0, [(core, COLUMNS)] * CLIENTS, frames)
    assert np.array_equal(frames[HONEST], honest[HONEST])
    faults = _bridge.check_frames(core, frames, COLUMNS, partial=True, **NAMES).faults
    assert [client for client, _ in faults] == ATTACKERS
    assert all(why.startswith("payload: ") for _, why in faults)


@pytest.mark.parametrize("codec", [*CODECS, "topk+rans", "randk:fraction=0.5,values=none", "powersgd:rank=1"])
def test_the_limit_of_a_codec_is_where_it_ceases_to_encode(codec):
    core = _bridge.Codec(codec, shapes=[(8, COLUMNS // 8)])
    limit, payload = core.limit(COLUMNS), np.empty(core.payload_bytes(COLUMNS), np.uint8)
    rows = np.zeros(COLUMNS, np.float32)
    rows[5] = -np.nextafter(np.float32(limit), np.float32(0))
    core.encode(rows, payload, seed=0, round=0, client=0)
    rows[5] = limit
    with pytest.raises(CodecError, match="cannot be encoded"):
        core.encode(rows, payload, seed=0, round=0, client=0)


@pytest.mark.parametrize("codec", [*CODECS, "qsgd:levels=5,norm=l2", "eden:bits=2,block=32", "q2+rans", "topk+rans"])
def test_crafted_frames_pass_every_check_with_the_largest_numbers(codec):
    rows = rows_of(CLIENTS, COLUMNS, centre=5).numpy()
    core, frames = encoded(codec, rows)
    attack = attack_of("crafted")
    sent = attack.sent(0, rows)
    attack.cut(sent, NAMES["senders"], core.limit(COLUMNS))
    _bridge.encode_frames(core, sent, frames, seed=1, **NAMES)
    attack.forge(0, [(core, COLUMNS)] * CLIENTS, frames)
    checked, decoded = _bridge.check_frames(core, frames, COLUMNS, partial=True, **NAMES), np.empty_like(rows)
    assert checked.faults == []
    _bridge.decode_frames(checked, decoded)
    lies = np.abs(decoded[ATTACKERS].astype(np.float64))
    assert np.isfinite(lies).all()
    # Half: powersgd leaves room for the rounding of its factors. eden takes scales that no encoder has, up to 2^92.
    assert lies.max() >= 0.5 * min(core.limit(COLUMNS), 2.0**127)
    if core.name == "eden":
        assert lies.max() > 2.0**88


@pytest.mark.parametrize(
    ("attack", "honest_rounds", "why"),
    [
        ("replay", 1, "round=[0-2], but round [1-3] was expected"),
        ("replay:delay=3", 3, "round=0, but round 3 was expected"),
        ("replay:delay=0,target=5", 0, "sender=5, but sender 3 was expected"),
        ("replay:delay=2,target=5", 2, "round=[01], but round [23] was expected"),
    ],
)
def test_a_replayed_message_is_whole_but_refused_for_the_round_or_sender_in_its_header(attack, honest_rounds, why):
    recorded = Recorded()
    gossip, rows = attacked(attack, exchange=recorded), rows_of(CLIENTS, COLUMNS)
    for t in range(4):
        traffic = gossip.round(t, rows)
        assert np.flatnonzero(traffic.tolerated).tolist() == ([] if t < honest_rounds else ATTACKERS)
        if t >= honest_rounds:
            codec = parse_codec("none")
            found = dict(codec.check_frames(recorded.frames[t], COLUMNS, round=t, **gossip.names).faults)
            assert re.match(why, found[3])
    target = 5 if "target" in attack else 3
    replayed = recorded.frames[3][3], recorded.frames[3 - honest_rounds][target]
    if attack != "replay":  # whose message of the round before was never sent
        assert np.array_equal(*replayed)


@pytest.mark.parametrize("codec", ["none", "q4", "q3+ef", "q2+choco"])
@pytest.mark.parametrize("mixer", ["linear", "median", "push-sum"])
def test_refused_clients_sit_the_round_out_and_are_counted(mixer, codec):
    rows, before = (rows_of(CLIENTS, COLUMNS, centre=5) for _ in range(2))
    traffic = attacked("nan", mixer, codec).round(0, rows)
    assert np.flatnonzero(traffic.tolerated).tolist() == ATTACKERS
    assert torch.isfinite(rows).all()
    assert not torch.equal(rows[HONEST], before[HONEST])
    if mixer == "linear":
        # V01 in float32, as in test_gossip: the honest mix among themselves.
        assert (rows[HONEST].double().mean(0) - before[HONEST].double().mean(0)).abs().max() < 30 * 2.0**-24


@pytest.mark.parametrize(
    "mixer", ["clipped:f=2", "trimmed-mean:f=2", "median", "krum:f=2", "multi-krum:f=2", "nna:f=2"]
)
def test_damage_is_survived_where_somebody_guards_against_it(mixer):
    rows, before = (rows_of(CLIENTS, COLUMNS, centre=5) for _ in range(2))
    traffic = attacked(None, mixer, exchange=Damaged([5], rounds=[0])).round(0, rows)
    assert np.flatnonzero(traffic.tolerated).tolist() == [5]
    assert torch.equal(rows[5], before[5])


@pytest.mark.parametrize("mixer", ["linear", "push-sum"])
def test_damage_is_an_error_where_nobody_does(mixer):
    with pytest.raises(FrameError, match="client 5"):
        attacked(None, mixer, exchange=Damaged([5], rounds=[0])).round(0, rows_of(CLIENTS, COLUMNS))
