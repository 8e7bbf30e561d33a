"""Messages that are refused: who is counted, what stays as it was, and the error where nobody expected any."""

import numpy as np
import pytest
import torch

from declora import _bridge
from declora.errors import CodecError, FrameError, TrainingError
from declora.exchange import Delivery, LocalExchange
from declora.mixer import ClippedGossip
from federations import Damaged, Recorded, federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 10, 256
MEMORIES = ["q8+ef", "none+ef", "q2+ef", "q4+choco", "none+choco", "q2+ef21", "topk:fraction=0.2+choco"]


def start(centre=5.0):
    return torch.full((CLIENTS, COLUMNS), centre)


@pytest.mark.parametrize("codec", MEMORIES)
def test_a_refused_message_leaves_the_memory_of_its_sender_as_it_was_and_moves_those_of_others(codec):
    federation = federation_of("complete", codec=codec, mixer="clipped:tau=1e6", exchange=Damaged([5], rounds=[2]))
    gossip, rows = gossip_of(federation, start()), rows_of(CLIENTS, COLUMNS, centre=5)
    for t in range(2):
        gossip.round(t, rows)
    before, row = gossip.memory.state.copy(), rows[5].clone()
    traffic = gossip.round(2, rows)
    assert np.flatnonzero(traffic.tolerated).tolist() == [5]
    assert torch.equal(rows[5], row)
    np.testing.assert_array_equal(gossip.memory.state[5], before[5])
    if codec != "none+ef":  # which never owes anything
        changed = (gossip.memory.state != before).any(axis=1)
        assert changed[np.arange(CLIENTS) != 5].all()


@pytest.mark.parametrize("codec", [codec for codec in MEMORIES if codec != "q2+ef"])
def test_rows_that_agree_are_not_thrown_apart_by_a_message_that_was_lost(codec):
    """With and without the loss, rows lie within 0.05 (5 sigma) and a few steps of q8 on values of 5, 5 / 127."""
    rows = 5 + 0.01 * rows_of(CLIENTS, COLUMNS)
    lossy = gossip_of(
        federation_of("complete", codec=codec, mixer="clipped:tau=1e6", exchange=Damaged([5, 6], rounds=[1, 2])),
        start(),
    )
    whole = gossip_of(federation_of("complete", codec=codec, mixer="clipped:tau=1e6"), start())
    apart, never = [], rows.clone()
    for t in range(6):
        lossy.round(t, rows)
        whole.round(t, never)
        apart.append(float((rows - never).abs().max()))
    assert max(apart) < 0.05 + 4 * 5 / 127


def test_after_a_refusal_error_feedback_sends_its_row_and_what_it_owed_before():
    """The telescoping sum over the rounds that arrived: sent + owed = to be sent, as if the lost one had not been."""
    federation = federation_of("complete", codec="q4+ef", mixer="clipped:tau=1e6", exchange=Damaged([3], rounds=[1]))
    gossip = gossip_of(federation, torch.zeros(CLIENTS, COLUMNS))
    memory, sums = gossip.memory, np.zeros(COLUMNS)
    remember = memory.remember

    def recorded(outgoing, public, refused, columns):
        if not refused[3]:
            sums[:] += public[3]
        remember(outgoing, public, refused, columns)

    memory.remember = recorded
    wanted = np.zeros(COLUMNS)
    for t in range(4):
        rows = rows_of(CLIENTS, COLUMNS, seed=t)
        wanted += rows[3].numpy() if t != 1 else 0
        gossip.round(t, rows)
    np.testing.assert_allclose(sums + memory.state[3], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "codec", ["none+choco", "q4+choco", "q2+ef21", "natural+choco", "qsgd+choco", "randk:fraction=0.5+ef21"]
)
@pytest.mark.parametrize("mixer", ["median", "clipped:f=1", "trimmed-mean:f=1", "krum:f=1", "nna:f=1"])
def test_a_message_that_would_sum_a_public_copy_to_infinity_is_refused_and_counted(codec, mixer):
    """The attacker's messages are the largest that its codec carries, each of them proper."""
    federation = federation_of("complete", codec=codec, mixer=mixer, attack="crafted", attackers=[2])
    gossip, rows = gossip_of(federation, start(1.0)), rows_of(CLIENTS, COLUMNS, centre=1)
    refused = []
    for t in range(40):
        refused.append(np.flatnonzero(gossip.round(t, rows).tolerated).tolist())
        assert np.isfinite(gossip.memory.state).all()
        honest = rows[[client for client in range(CLIENTS) if client != 2]]
        assert honest.abs().max() < 10
    assert [] in refused
    assert [2] in refused
    assert all(clients in ([], [2]) for clients in refused)


@pytest.mark.parametrize("codec", ["none", "q4"])
def test_nothing_of_a_refused_message_reaches_the_mixer(codec):
    """It decodes to 0, also where its payload would have decoded to numbers."""
    seen = []

    class Watched(ClippedGossip):
        def mix(self, weights, public, rows, **arguments):
            seen.append(public.copy())
            super().mix(weights, public, rows, **arguments)

    exchange = Damaged([5], rounds=[0])
    gossip = gossip_of(federation_of("complete", codec=codec, mixer=Watched(tau=1.0), exchange=exchange), start(0.0))
    gossip.round(0, rows_of(CLIENTS, COLUMNS, centre=1))
    assert not seen[0][5].any()
    assert (np.delete(seen[0], 5, axis=0) != 0).any(axis=1).all()


class Summed(LocalExchange):
    """Makes client 2's messages proper ones of 1.2e38 in every number: three of them add up to infinity."""

    def deliver(self, frames, sizes, audience, beside=None) -> Delivery:
        frames = frames.copy()
        header, payload = frames[2, :96], frames[2, 96:]
        payload.view("<f4")[:] = 1.2e38
        for at, data in ((60, payload), (92, header[:92])):
            header[at : at + 4] = np.frombuffer(_bridge.crc32c(data.copy()).to_bytes(4, "little"), np.uint8)
        return Delivery(frames, super().deliver(frames, sizes, audience).bytes_sent)


def test_where_nobody_guards_against_it_such_a_message_ends_the_run_with_round_and_client():
    gossip = gossip_of(federation_of("complete", codec="none+choco", exchange=Summed()), start(0.0))
    rows = start(0.0)
    for t in range(2):
        gossip.round(t, rows)
        rows.zero_()  # else what client 2 is said to have sent would move all rows out of the numbers
    copies = gossip.memory.state.copy()
    with pytest.raises(FrameError, match=r"^round 3: the message of client 2 was refused: .* public copy"):
        gossip.round(2, rows)
    assert not rows.any()
    np.testing.assert_array_equal(gossip.memory.state, copies)


@pytest.mark.parametrize("codec", ["q4", "q4+ef", "q4+choco"])
def test_a_damaged_message_ends_the_run_with_round_and_client_before_anything_is_mixed(codec):
    gossip = gossip_of(federation_of(codec=codec, exchange=Damaged([3, 7], rounds=[1])), start(0.0))
    rows = rows_of(CLIENTS, COLUMNS)
    gossip.round(0, rows)
    before = rows.clone()
    with pytest.raises(FrameError, match=r"^round 2: the message of client 3 was refused: payload checksum"):
        gossip.round(1, rows)
    assert torch.equal(rows, before)


class Swapped(LocalExchange):
    """Delivers other frames than those that were sent."""

    def __init__(self, frames):
        self.frames = frames

    def deliver(self, frames, sizes, audience, beside=None):
        return Delivery(self.frames, super().deliver(frames, sizes, audience).bytes_sent)


def test_a_message_of_another_run_with_the_same_seed_is_refused():
    """A run's id is drawn once, not derived from its seed."""
    rows, recorded = rows_of(CLIENTS, COLUMNS), Recorded()
    gossip_of(federation_of(exchange=recorded), start(0.0), run_id=None).round(0, rows.clone())
    (frames,) = recorded.frames
    (own,) = {bytes(frame[8:24]) for frame in frames}
    gossip_of(federation_of(exchange=Swapped(frames)), start(0.0), run_id=own).round(0, rows.clone())
    with pytest.raises(FrameError, match="run id is that of another run"):
        gossip_of(federation_of(exchange=Swapped(frames)), start(0.0), run_id=None).round(0, rows.clone())


def test_the_manifest_tells_apart_sites_that_agreed_on_something_else():
    def manifest(columns=COLUMNS, *, gamma=None, version="1", method="dec-lora", **settings):
        federation = federation_of(**{"codec": "q4", "clients": CLIENTS, **settings})
        rows = torch.zeros(CLIENTS, columns)
        return gossip_of(federation, rows, gamma=gamma, version=version, method=method).names["manifest"]

    others = [
        {"columns": 2 * COLUMNS}, {"codec": "q8"}, {"codec": "q4:block=64"}, {"codec": "q4+choco"}, {"mixer": "median"},
        {"gamma": 0.5}, {"method": "fedavg"}, {"version": "2"},
    ]  # fmt: skip
    assert manifest() == manifest(topology="complete")
    assert len({manifest(), *(manifest(**other) for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("codec", ["none", "none+choco"])
def test_where_lies_drive_the_honest_out_of_the_numbers_the_error_names_attack_and_mixer(codec):
    federation = federation_of("exponential", codec=codec, attack="crafted", attackers=[1, 2, 3, 4])
    gossip, rows = gossip_of(federation, start(0.0)), rows_of(CLIENTS, COLUMNS)

    def play():
        for t in range(200):
            gossip.round(t, rows)

    with pytest.raises(TrainingError, match=r"^round \d+: .*mixer='linear'.*attack='crafted'"):
        play()


def test_what_the_honest_cannot_send_before_any_lie_was_heard_is_not_blamed_on_the_attack():
    federation = federation_of("complete", codec="fp16", mixer="median", attack="sign-flip", attackers=[1])
    with pytest.raises(CodecError, match=r"^x\[0, 0\]=.*cannot be encoded by codec \"fp16\"") as caught:
        gossip_of(federation, start(0.0)).round(0, start(1e6))
    assert "attack" not in str(caught.value)
