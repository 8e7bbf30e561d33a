"""HAFLQ: bits by importance within a cap: bytes, decoding, who gets them, and what is refused (V15, V33)."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import declora
from declora import _bridge, seeds
from declora.codec import MaskedCodec, parse_codec
from declora.errors import CodecError, ConfigError
from declora.methods import build_method
from declora.methods.components import Components
from declora.methods.haflq import Budget
from federations import federation_of, gossip_of, rows_of
from test_hafl import Watching, layout_of

CLIENTS, COLUMNS = 5, 61
UNITS = np.r_[np.full(5, -1), np.arange(20), np.repeat([40, 33, 50], 12)]
"""Five columns that all have, twenty of one each, and three groups of twelve, in no order."""
NAMES = {"run_id": b"r" * 16, "manifest": b"m" * 16, "round": 2, "senders": np.arange(CLIENTS, dtype=np.uint32)}


def coded(most, seed=0):
    """uint8 `[clients, columns]` of 0 to `most`, constant within units."""
    codes = np.random.default_rng(seed).integers(0, most + 1, (CLIENTS, 51), dtype=np.uint8)
    return np.where(UNITS < 0, np.uint8(1), codes[:, UNITS])


def framed(codec, rows, carried):
    frames = np.full((CLIENTS, codec.frame_bytes(COLUMNS)), 0xAA, dtype=np.uint8)
    codec.encode_frames(rows, frames, carried=carried, seed=1, **NAMES)
    return frames


# Bytes


@pytest.mark.parametrize("text", ["q2:block=32", "q3:norm=l2", "q5", "q8", "none"])
def test_the_finer_ones_of_a_codec_are_those_of_4_and_8_bits_with_its_options(text):
    codec = parse_codec(text).graded()
    finer = {"q2:block=32": [4, 8], "q3:norm=l2": [4, 8], "q5": [8], "q8": [], "none": []}[text]
    assert [own.plain.partition(":")[0] for own in codec.finer] == [f"q{bits}" for bits in finer]
    assert {own.plain.partition(":")[2] for own in codec.finer} <= {codec.plain.partition(":")[2]}
    assert parse_codec(f"{text}+rans").graded().finer == ()


@pytest.mark.parametrize("text", ["q2", "q4:block=32"])
def test_a_message_is_two_bits_for_each_unit_and_a_payload_of_each_codec_that_decodes_as_by_itself(text):
    """V33: 96 + ceil(2 units / 8) + the payloads of what each codec has."""
    plain, rows = parse_codec(text).graded(), rows_of(CLIENTS, COLUMNS).numpy()
    codec, codecs = MaskedCodec(plain, UNITS), (plain, *plain.finer)
    carried = coded(len(codecs))
    frames = framed(codec, rows, carried)
    sizes, counts = codec.frame_sizes(frames, COLUMNS), [np.bincount(own, minlength=4)[1:] for own in carried]
    assert [size - 96 - 6 for size in sizes] == [
        sum(one.payload_bytes(int(n)) for one, n in zip(codecs, own, strict=False)) for own in counts
    ]
    assert sizes.tolist() == [codec.message_bytes(own[: len(codecs)].tolist()) for own in counts]
    checked, z = codec.check_frames(frames, COLUMNS, **NAMES), np.full_like(rows, -7)
    checked.decode(z)
    assert checked.faults == []
    np.testing.assert_array_equal(checked.carried, carried > 0)
    for client, row in enumerate(rows):
        for code, one in enumerate(codecs, start=1):
            own, stream = carried[client] == code, 1 if code == 1 else seeds.derive(1, "finer", code)
            payload = one.encode(row[own], seed=stream, round=2, client=client)
            np.testing.assert_array_equal(z[client, own], one.decode(payload, int(own.sum())))
    assert not z[carried == 0].any()


@given(
    text=st.sampled_from(["q2", "q4"]),
    fields=st.lists(st.integers(0, 3), min_size=23, max_size=23),
    payload=st.binary(max_size=70),
    good=st.booleans(),
)
def test_any_bytes_are_refused_or_decode_to_finite_numbers_of_the_columns_in_their_map(text, fields, payload, good):
    plain = parse_codec(text).graded()
    codec, known = MaskedCodec(plain, UNITS), 1 + len(plain.finer)
    own = np.array(fields)[np.searchsorted(np.unique(UNITS[5:]), UNITS[5:])]
    if good:  # the right length for its map
        size = codec.message_bytes(np.bincount(np.r_[own, [1] * 5], minlength=4)[1 : known + 1].tolist()) - 96 - 6
        payload = (payload + bytes(size))[:size]
    bits = (np.array(fields)[:, None] >> [0, 1]) & 1
    whole = np.packbits(bits.ravel(), bitorder="little").tobytes() + payload
    names = NAMES | {"senders": NAMES["senders"][:1]}
    frame = np.zeros((1, codec.frame_bytes(COLUMNS)), np.uint8)
    frame[0, 96:][: len(whole)] = np.frombuffer(whole, np.uint8)
    _bridge.seal_frames(frame, np.array([len(whole)], np.uint64), **names)
    checked, z = codec.check_frames(frame, COLUMNS, **names), np.full((1, COLUMNS), -7, np.float32)
    checked.decode(z)
    assert np.isfinite(z).all()
    assert not z[~checked.carried].any()
    if max(fields) > known:
        assert f"has 3 for a unit, of {known} codecs" in checked.faults[0][1]
    elif not checked.refused[0]:
        assert (checked.carried[0] == np.r_[[True] * 5, own > 0]).all()


def test_a_codec_that_is_not_there_is_refused():
    codec = MaskedCodec(parse_codec("q4"), UNITS)
    with pytest.raises(CodecError, match="carried has 2, but codec='q4:block=256,norm=max' goes to 1"):
        framed(codec, rows_of(CLIENTS, COLUMNS).numpy(), coded(2))


# What the cap buys


@given(
    text=st.sampled_from(["q2", "q4:block=32", "q8", "none"]),
    sizes=st.lists(st.integers(24, 300), min_size=1, max_size=20),
    head=st.integers(0, 100),
    beyond=st.integers(0, 8000),
)
def test_a_message_never_exceeds_its_cap_and_has_more_of_what_matters_more_and_no_room_for_another(
    text, sizes, head, beyond
):
    """A unit of 24 numbers or more takes more bytes by a finer codec, whatever becomes of blocks."""
    codec = parse_codec(text).graded()
    budget = Budget(codec, np.r_[np.full(head, -1), np.repeat(np.arange(len(sizes)), sizes)], len(sizes))
    cap, order = budget.bytes([head]) + beyond, np.random.default_rng(0).permutation(len(sizes))
    codes = budget.spent(order, cap)

    def size(codes):
        counts = np.bincount(codes, weights=budget.sizes[order], minlength=2 + len(codec.finer)).astype(int)
        return budget.bytes((counts[1:] + np.eye(1, len(counts) - 1, dtype=int)[0] * head).tolist())

    assert size(codes) <= cap
    assert (np.diff(codes.astype(int)) <= 0).all()
    assert codes.max() - codes.min() <= 1
    if codes.min() <= len(codec.finer):
        codes[codes.argmin()] += 1
        assert size(codes) > cap


def test_without_a_cap_it_is_half_way_between_all_by_the_codec_and_all_by_the_finest():
    """Ten of 256 numbers by q2 have 68 bytes each, by q8 260: all have q4's 132, and what is left raises two."""
    budget = Budget(parse_codec("q2").graded(), np.repeat(np.arange(10), 256), 10)
    assert budget.bytes([2560, 0, 0]) == 96 + 3 + 680
    assert budget.spent(np.arange(10), None).tolist() == [3] * 2 + [2] * 8


@pytest.fixture
def run(tiny_run):
    lora = {"r": 4, "target_modules": ["query", "value"]}
    return partial(tiny_run, rounds=2, learning_rate=1e-2, lora=lora)


def test_real_messages_are_within_the_cap_and_use_it(run):
    watching, cap = Watching(), 700
    result = run(method=[f"haflq:keep=0.75,cap={cap}", watching], codec="q2")
    layout = result.average.layout
    component = max(b.shape[0] + a.shape[1] for b, a in layout.pairs)
    messages = result.clients["bytes_sent"] / 2  # a ring
    assert (messages <= cap).all()
    assert (messages > cap - component).all()  # of q8, a byte for a number
    units = sum(a.shape[0] for _, a in layout.pairs)
    assert (watching.carried.sum(axis=1) - layout.size("head") > 0).all()
    assert cap < 96 + units // 4 + parse_codec("q8").payload_bytes(layout.columns)


def test_without_finer_codecs_it_is_hafl_to_the_bit(run):
    one, other = run(method="haflq", codec="q8"), run(method="hafl", codec="q8")
    for client in range(4):
        assert torch.equal(one.client(client).row, other.client(client).row)
    assert (one.history["bytes_total"] == other.history["bytes_total"]).all()
    assert any("has no finer ones" in note for note in one.notes)


def test_finer_codecs_go_to_the_highest_scores_of_those_that_a_client_trained():
    layout, clients = layout_of(), 4
    rows, part, draws = rows_of(clients, layout.columns), build_method("haflq:keep=0.75,cap=170"), torch.Generator()
    federation = part.arrange(federation_of(clients=clients, codec="q2"))
    alone = gossip_of(federation, rows, method=part, layout=layout)
    scores = torch.rand(rows.shape, generator=draws.manual_seed(0))
    alone.state.room("haflq")["sensitivity"].copy_(scores)
    alone.state.room("haflq")["uncertainty"].fill_(1.0)
    plan = alone.plan(0)
    part.before_round(alone.state, plan)
    carried, components = part.carried(alone.state, plan), Components(layout)
    codes, means = carried[:, components.firsts], components.means(scores).numpy()
    assert (carried[:, components.units < 0] == 1).all()
    assert ((codes > 0).sum(axis=1) == 6).all()
    for own, of in zip(codes, means, strict=True):
        assert len(set(own[own > 0].tolist())) == 2
        assert (np.diff(own[np.argsort(-of)][own[np.argsort(-of)] > 0].astype(int)) <= 0).all()


# What is refused


def test_a_cap_that_holds_no_component_is_refused_before_anything_is_trained(run):
    with pytest.raises(ConfigError, match=r"cap=100 bytes are too few for a message of the head and one component"):
        run(method="haflq:cap=100", codec="q2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "haflq:cap=0"}, "cap='?0'? must be a whole number of at least 1"),
        ({"method": "haflq:keep=0.5", "ranks": [1, 2, 4, 2]}, "both say how many components clients train"),
        ({"method": "haflq", "codec": "q2+choco"}, "remembers what was sent of each column"),
        ({"method": "hafl+haflq"}, "say how clients' values are combined"),
    ],
    ids=str,
)
def test_what_it_cannot_be_combined_with_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        declora.simulate(clients=4, model="no/such-model", **settings)
