"""Messages that have columns of their senders' choosing: bytes, bitmaps, what is refused, and the ratio mix."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import declora
from declora import _bridge
from declora.codec import MaskedCodec, parse_codec
from declora.errors import CodecError, ConfigError
from declora.mixer.ratio import mix_ratio
from declora.model import Block, Layout
from declora.plan import Columns, Phase, Plan
from declora.topology import Topology
from federations import Damaged, Recorded, federation_of, gossip_of, rows_of
from test_own_codec import First

CLIENTS, COLUMNS = 5, 61
UNITS = np.r_[np.full(5, -1), np.arange(20), np.repeat([40, 33, 50], 12)]
"""Five columns that all have, twenty of one each, and three groups of twelve, in no order."""
BITS = 23
NAMES = {"run_id": b"r" * 16, "manifest": b"m" * 16, "round": 2, "senders": np.arange(CLIENTS, dtype=np.uint32)}
LAYOUT = Layout([Block("x", (COLUMNS,), "A", 0)])


def masks(seed=0, density=0.5):
    """bool `[clients, columns]`, constant within units."""
    bits = np.random.default_rng(seed).random((CLIENTS, 51)) < density
    return np.where(UNITS < 0, True, bits[:, UNITS])


class Choosing(declora.Part):
    """Sends the columns that `masks` say."""

    name = "choosing"

    def __init__(self, carried, units=UNITS):
        self._carried, self._units = carried, units

    def units(self, layout):
        return self._units

    def carried(self, state, plan):
        return self._carried


def framed(codec, rows, carried):
    frames = np.full((CLIENTS, codec.frame_bytes(COLUMNS)), 0xAA, dtype=np.uint8)
    codec.encode_frames(rows, frames, carried=carried, seed=1, **NAMES)
    return frames


def gossip(carried, *, rows=None, **settings):
    rows = rows_of(CLIENTS, COLUMNS) if rows is None else rows
    federation = federation_of(clients=CLIENTS, **settings)
    return gossip_of(federation, rows.clone(), method=Choosing(carried), layout=LAYOUT), rows


# Bytes


@pytest.mark.parametrize("text", ["none", "fp16", "q4", "q3:block=32", "eden:bits=3", "natural", "randk:fraction=0.5"])
def test_a_message_is_its_header_a_bit_for_each_unit_and_the_payload_of_what_is_carried(text):
    """V33, from the frames: 96 + ceil(units / 8) + payload(carried columns)."""
    plain, rows, carried = parse_codec(text), rows_of(CLIENTS, COLUMNS).numpy(), masks()
    codec = MaskedCodec(plain, UNITS)
    frames = framed(codec, rows, carried)
    sizes = codec.frame_sizes(frames, COLUMNS)
    counts = carried.sum(axis=1)
    assert len(set(counts.tolist())) > 1
    assert sizes.tolist() == [96 + -(-BITS // 8) + plain.payload_bytes(int(n)) for n in counts]
    for row, frame in enumerate(frames):
        payload = plain.encode(rows[row][carried[row]], seed=1, round=2, client=row)
        assert frame[99 : sizes[row]].tobytes() == payload
        assert not frame[sizes[row] :].any()
    checked, z = codec.check_frames(frames, COLUMNS, **NAMES), np.full_like(rows, -7)
    checked.decode(z)
    assert checked.faults == []
    np.testing.assert_array_equal(checked.carried, carried)
    assert not z[~carried].any()
    if text == "none":
        np.testing.assert_array_equal(z[carried], rows[carried])


@pytest.mark.parametrize("codec", ["none", "q4", "q2+rans", First(0.5, memory="none")], ids=str)
def test_bytes_of_a_round_are_counted_from_the_frames(codec):
    if isinstance(codec, First):
        codec.unbiased = True
    carried, recorded = masks(), Recorded()
    alone, rows = gossip(carried, codec=codec, exchange=recorded)
    inbox = alone.round(0, rows)
    lengths = recorded.frames[0][:, 64:72].copy().view("<u8")[:, 0].astype(np.int64)
    assert inbox.bytes_sent.tolist() == (2 * (96 + lengths)).tolist()
    np.testing.assert_array_equal(inbox.carried, carried)


def test_without_units_there_is_no_bitmap_and_without_a_unit_no_payload():
    rows = rows_of(CLIENTS, COLUMNS).numpy()
    for units, size in ((np.full(COLUMNS, -1), 4 * COLUMNS), (np.arange(COLUMNS), 8)):
        codec = MaskedCodec(parse_codec("none"), units)
        carried = np.broadcast_to(units < 0, rows.shape)
        frames = framed(codec, rows, carried)
        assert codec.frame_sizes(frames, COLUMNS).tolist() == [96 + size] * CLIENTS
        np.testing.assert_array_equal(codec.check_frames(frames, COLUMNS, **NAMES).carried, carried)


def test_columns_that_are_not_sent_have_no_bits():
    """A part of the method that sends some columns alone leaves the units of the others out of the bitmap."""

    recorded, carried, first = Recorded(), masks(), Columns(COLUMNS, ((0, 15),))
    alone, rows = gossip(carried, exchange=recorded)
    alone.state.adapter.copy_(rows)
    ring, nothing = Topology.build("ring", CLIENTS), Phase(np.zeros(CLIENTS, dtype=np.int64), LAYOUT.whole)
    before = rows.clone()
    inbox = alone.gossip.round(Plan(0, (nothing,), first, ring.round(0)), alone.state, alone.method)
    rows = alone.state.adapter
    assert inbox.bytes_sent.tolist() == (2 * (96 + 2 + 4 * carried[:, :15].sum(axis=1))).tolist()
    assert torch.equal(rows[:, 15:], before[:, 15:])


# Hostile bytes


def test_a_bitmap_that_does_not_fit_its_payload_is_refused_by_name():
    codec, carried = MaskedCodec(parse_codec("none"), UNITS), masks()
    frames = framed(codec, rows_of(CLIENTS, COLUMNS).numpy(), carried)
    sizes = codec.frame_sizes(frames, COLUMNS).astype(np.uint64) - 96

    def fault(change):
        changed, lens = frames.copy(), sizes.copy()
        change(changed[1, 96:], lens)
        _bridge.seal_frames(changed, lens, **NAMES)
        checked, z = codec.check_frames(changed, COLUMNS, **NAMES), np.empty((CLIENTS, COLUMNS), np.float32)
        checked.decode(z)
        assert checked.refused.tolist() == [False, True, False, False, False]
        assert not z[1].any()
        assert not checked.carried[1].any()
        return checked.faults[0][1]

    def cut(payload, lens):
        lens[1] = 2

    def flip(payload, lens):
        payload[0] ^= 1

    def beyond(payload, lens):
        payload[2] |= 0x80

    assert "its bitmap has 2 bytes instead of 3" in fault(cut)
    assert f"Its bitmap says that it carries {carried[1].sum() + (1 if not carried[1, 5] else -1)} of 61" in fault(flip)
    assert "its bitmap has more than 23 units" in fault(beyond)
    damaged = frames.copy()
    damaged[1, 97] ^= 4
    assert "checksum" in codec.check_frames(damaged, COLUMNS, **NAMES).faults[0][1]
    assert "bytes instead of" in codec.check_frames(frames[:, 1:].copy(), COLUMNS, **NAMES).faults[0][1]


@given(
    text=st.sampled_from(["none", "q2", "q4+rans", "eden:bits=2", "natural+rans", "randk"]),
    payload=st.binary(max_size=300),
    good=st.booleans(),
)
def test_any_bytes_are_refused_or_decode_to_finite_numbers_of_the_columns_in_their_bitmap(text, payload, good):
    codec = MaskedCodec(parse_codec(text), UNITS)
    frame = np.zeros((1, codec.frame_bytes(COLUMNS)), np.uint8)
    if good:  # the right length for its bitmap
        bits = np.unpackbits(np.frombuffer((payload + bytes(3))[:3], np.uint8), bitorder="little")[:BITS]
        own = np.where(UNITS < 0, 1, bits[np.searchsorted(np.unique(UNITS[5:]), np.maximum(UNITS, 0)) % BITS])
        size = 3 + parse_codec(text).payload_bytes(int(own.sum()))
        payload = (payload + bytes(size))[:size]
    payload = payload[: frame.shape[1] - 96]
    names = NAMES | {"senders": NAMES["senders"][:1]}
    frame[0, 96:][: len(payload)] = np.frombuffer(payload, np.uint8)
    _bridge.seal_frames(frame, np.array([len(payload)], np.uint64), **names)
    checked, z = codec.check_frames(frame, COLUMNS, **names), np.full((1, COLUMNS), -7, np.float32)
    checked.decode(z)
    assert np.isfinite(z).all()
    assert not z[~checked.carried].any()
    if checked.refused[0]:
        assert not checked.carried.any()
    else:
        assert checked.carried[0, :5].all()
        given = np.unpackbits(np.frombuffer(payload[:3], np.uint8), bitorder="little")[:BITS].astype(bool)
        for bit, unit in enumerate(np.unique(UNITS[5:])):
            assert (checked.carried[0, unit == UNITS] == given[bit]).all()


def test_numbers_that_cannot_be_encoded_are_named_where_they_are_carried():
    rows, carried = rows_of(CLIENTS, COLUMNS).numpy(), masks()
    codec = MaskedCodec(parse_codec("q4"), UNITS)
    column = int(np.flatnonzero(~carried[2])[0])
    rows[2, column] = np.nan
    framed(codec, rows, carried)
    column = int(np.flatnonzero(carried[2])[-1])
    rows[2, column] = np.inf
    with pytest.raises(CodecError, match=rf"x\[2, {column}\]=inf cannot be encoded"):
        framed(codec, rows, carried)


# Mixing


def oracle(weights, z, c, x, gamma):
    """The ratio, number by number, in float64."""
    out = x.astype(np.float64)
    for i, k in np.ndindex(*x.shape):
        share = [(j, weights[i, j] * c[j, k]) for j in range(len(z)) if weights[i, j] * c[j, k] > 0]
        if share:
            mean = sum(s * float(z[j, k]) for j, s in share) / sum(s for _, s in share)
            out[i, k] += gamma * (mean - float(z[i, k] if c[i, k] > 0 else x[i, k]))
    return out


@pytest.mark.parametrize("gamma", [1.0, 0.4])
@pytest.mark.parametrize("codec", ["none", "q4"])
def test_each_column_is_the_weighted_mean_of_those_who_sent_it(codec, gamma):
    carried, rows = masks(), rows_of(CLIENTS, COLUMNS)
    federation = federation_of(clients=CLIENTS, codec=codec)
    alone = gossip_of(federation, rows.clone(), method=Choosing(carried), layout=LAYOUT, gamma=gamma)
    x = rows.numpy().copy()
    inbox = alone.round(0, rows)
    w = Topology.build("ring", CLIENTS).weights(0).toarray()
    # Rounded to float32 once: numbers below 5.
    np.testing.assert_allclose(rows.numpy(), oracle(w, inbox.public(), carried, x, gamma), atol=5 * 2.0**-24, rtol=0)


def test_counts_may_be_any_numbers():
    """As precisions are."""
    rng = np.random.default_rng(0)
    w, x = Topology.build("ring", CLIENTS).weights(0), rows_of(CLIENTS, 40000).numpy()
    z, counts = x + rng.normal(size=x.shape).astype(np.float32), rng.gamma(1.0, size=x.shape) + 0.1
    mixed = x.copy()
    mix_ratio(w, z, counts, mixed, gamma=0.7)
    some = [0, 16383, 16384, 39999]
    expected = oracle(w.toarray(), z[:, some], counts[:, some], x[:, some], 0.7)
    np.testing.assert_allclose(mixed[:, some], expected, atol=1e-6)


@pytest.mark.parametrize("codec", ["none", "q2", "q4"])
def test_who_is_alone_with_a_number_keeps_it_and_a_single_neighbours_is_taken_as_it_is(codec):
    carried = np.zeros((CLIENTS, COLUMNS), dtype=bool)
    carried[:, :5] = True
    carried[2, 5:] = True
    alone, rows = gossip(carried, codec=codec)
    x = rows.clone()
    alone.gossip._gamma = 1.0
    inbox = alone.round(0, rows)
    z = torch.from_numpy(inbox.public())
    assert torch.equal(rows[2, 5:], x[2, 5:])
    assert torch.equal(rows[[1, 3], 5:], z[2, 5:].expand(2, -1))
    assert torch.equal(rows[[0, 4], 5:], x[[0, 4], 5:])


@pytest.mark.parametrize("codec", ["none", "q4"])
def test_where_all_have_all_it_is_plain_gossip(codec):
    masked, rows = gossip(np.ones((CLIENTS, COLUMNS), dtype=bool), codec=codec)
    plain = rows.clone()
    gossip_of(federation_of(clients=CLIENTS, codec=codec), plain, layout=LAYOUT).round(0, plain)
    masked.round(0, rows)
    torch.testing.assert_close(rows, plain, atol=5 * 2.0**-23, rtol=0)


@pytest.mark.parametrize("attack", ["gaussian", "nan", "crafted", "stale", "replay:delay=1", "dissensus"])
def test_lies_in_some_columns_are_carried_or_refused(attack):
    """A message that is refused is the same as one that did not arrive."""
    carried = masks()
    alone, rows = gossip(carried, attack=attack, attackers=[2], topology="complete")
    for t in range(3):
        before = rows.clone()
        inbox = alone.round(t, rows)
    assert torch.isfinite(rows).all()
    if attack == "nan":
        assert inbox.refused.tolist() == [False, False, True, False, False]
        np.testing.assert_array_equal(inbox.carried[[0, 1, 3, 4]], carried[[0, 1, 3, 4]])
        w = np.full((CLIENTS, CLIENTS), 0.2) + 0.2 * np.eye(CLIENTS)  # the weight of client 2 stays at home
        w[:, 2] = 0
        expected = oracle(w, before.numpy(), carried, before.numpy(), 1.0)
        np.testing.assert_allclose(rows[[0, 1, 3, 4]].numpy(), expected[[0, 1, 3, 4]], atol=2e-6)


def test_damage_is_survived_where_somebody_guards_against_it():
    carried = masks()
    alone, rows = gossip(carried, exchange=Damaged([3], rounds=[0]), attack="gaussian", attackers=[1])
    inbox = alone.round(0, rows)
    assert np.flatnonzero(inbox.refused).tolist() == [3]
    assert not inbox.carried[3].any()


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixer": "median", "topology": "complete"}, "mixer='median' compares whole messages"),
        ({"mixer": "clipped:tau=1"}, "mixer='clipped:tau=1' compares whole messages"),
        ({"mixer": "push-sum", "topology": "exponential"}, "mixer='push-sum' compares whole messages"),
        ({"codec": "q4+choco"}, r"remembers what was sent of each column, .* e.g. codec='q4[^+]*'"),
        ({"codec": "topk+ef"}, "Use a codec without a memory, e.g. codec='q4'"),
    ],
    ids=str,
)
def test_what_needs_whole_messages_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        declora.simulate(method=Choosing(None), model="no/such-model", **settings)


@pytest.mark.parametrize("units", [None, np.zeros(COLUMNS), np.zeros(3, dtype=np.int64)], ids=["none", "floats", "few"])
def test_units_that_are_none_are_refused(units):
    with pytest.raises(ConfigError, match=r"'choosing': units gives .*; it must give int64 \[61\]"):
        gossip_of(
            federation_of(clients=CLIENTS), rows_of(CLIENTS, COLUMNS), method=Choosing(None, units), layout=LAYOUT
        )


@pytest.mark.parametrize(
    ("carried", "error", "message"),
    [
        (None, ConfigError, r"'choosing': carried gives a NoneType; it must give bool or uint8 \[5, 61\]"),
        (np.ones((4, COLUMNS), dtype=bool), ConfigError, r"carried gives bool \[4, 61\]"),
        (np.arange(COLUMNS * CLIENTS).reshape(CLIENTS, COLUMNS) % 2 > 0, CodecError, "carried splits a unit"),
    ],
    ids=["none", "few", "split"],
)
def test_masks_that_are_none_are_refused(carried, error, message):
    alone, rows = gossip(carried)
    with pytest.raises(error, match=message):
        alone.round(0, rows)
