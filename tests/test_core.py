"""What the Rust core computes: the oracle's bytes, unbiased rounding, frames that prove themselves, gossip."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import quantizer_oracle as oracle
from core_calls import NAMES, checked, core, decoded, encoded, framed, ids, matrix, normal, rectangle, ring
from declora import _bridge, errors
from declora.codec import CODECS


def test_value_stability_of_the_quantizer():
    cases = json.loads(oracle.GOLDEN.read_text())
    assert len(cases) >= 20
    for case in cases:
        codec = _bridge.Codec(f"q{case['bits']}:block={case['block']},norm={case['norm']}")
        x = np.frombuffer(bytes.fromhex(case["x"]), "<f4")
        payload = encoded(codec, x, seed=int(case["seed"]), round=case["round"], client=case["client"])
        assert payload.tobytes().hex() == case["payload"]
        assert decoded(codec, payload, len(x)).tobytes().hex() == case["y"]


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=200),
    bits=st.integers(2, 8),
    block=st.integers(1, 5),
    norm=st.sampled_from(["max", "l2"]),
    seed=st.integers(0, 2**64 - 1),
    round=st.integers(0, 2**32 - 1),
    client=st.integers(0, 2**32 - 1),
)
def test_bytes_are_those_of_the_oracle(x, bits, block, norm, seed, round, client):
    codec = _bridge.Codec(f"q{bits}:block={32 * block},norm={norm}")
    x = np.array(x, np.float32)
    draws = {"seed": seed, "round": round, "client": client}
    payload = encoded(codec, x, **draws)
    assert payload.tobytes() == oracle.encode(x, bits=bits, block=32 * block, norm=norm, **draws)
    y = oracle.decode(payload.tobytes(), len(x), bits=bits, block=32 * block)
    np.testing.assert_array_equal(decoded(codec, payload, len(x)), y)


def test_philox_gives_the_published_vectors():
    known = [  # Random123 (Salmon et al., SC'11), kat_vectors
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, words in known:
        assert core.philox4x32_10(counter, key) == words == oracle.philox4x32_10(counter, key)


def test_crc32c_is_that_of_rfc_3720():
    assert _bridge.crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_halves_are_those_of_torch(name):
    codec = _bridge.Codec(name)
    x = normal(5000) * np.float32(10.0) ** np.random.default_rng(1).integers(-8, 4, 5000).astype(np.float32)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[name]
    expected = torch.from_numpy(x).to(dtype).float().numpy()
    np.testing.assert_array_equal(decoded(codec, encoded(codec, x), len(x)), expected)


@pytest.mark.parametrize("name", ["none", "bf16", "q4", "topk"])
def test_adding_a_message_is_decoding_and_adding_bit_for_bit(name):
    codec, x, z = _bridge.Codec(name), normal(5000), normal(5000, seed=1)
    payload = encoded(codec, z)
    expected = x + np.float32(0.3) * decoded(codec, payload, 5000)
    codec.decode_add(payload, x, 0.3)
    np.testing.assert_array_equal(x, expected)
    with pytest.raises(errors.ConfigError, match="weight=inf cannot be used: it must be a finite number"):
        codec.decode_add(payload, x, 1e39)
    with pytest.raises(errors.FrameError):
        codec.decode_add(payload[1:], x, 1.0)
    np.testing.assert_array_equal(x, expected)


def test_the_level_is_one_of_the_known():
    assert _bridge.level() in {"portable", "avx2", "avx512"}


@pytest.mark.parametrize("n", [0, 1, 31, 256, 257, 10_007])
def test_payload_bytes_is_the_closed_form(n):
    assert _bridge.Codec("none").payload_bytes(n) == 4 * n
    assert _bridge.Codec("fp16").payload_bytes(n) == _bridge.Codec("bf16").payload_bytes(n) == 2 * n
    for bits in range(2, 9):
        expected = 4 * -(-n // 64) + -(-n * bits // 8)
        assert _bridge.Codec(f"q{bits}:block=64").payload_bytes(n) == expected


def test_a_codec_says_what_it_is():
    codec = _bridge.Codec("q4:block=64,norm=l2")
    assert (codec.name, codec.block, str(codec), codec.id) == ("q4", 64, "q4:block=64,norm=l2", 0x00020404)
    assert repr(codec) == 'Codec("q4:block=64,norm=l2")'
    assert codec == _bridge.Codec("q4:norm=l2,block=64")
    assert codec != _bridge.Codec("q4:block=64")
    assert len({codec, _bridge.Codec("q4:norm=l2,block=64"), _bridge.Codec("none")}) == 2
    assert (_bridge.Codec("none").block, repr(_bridge.Codec("none"))) == (0, 'Codec("none")')
    assert [name for name in CODECS if not _bridge.Codec(name).unbiased] == ["fp16", "bf16", "sign", "topk", "powersgd"]
    assert [name for name in CODECS if _bridge.Codec(name).needs_memory] == ["sign", "topk", "powersgd"]
    few = ["drive:rotations=1", "eden:rotations=1", "drive:block=32", "eden:block=2048"]
    for name in few:
        codec = _bridge.Codec(name)
        assert (codec.unbiased, codec.keeps_product, codec.needs_memory) == (False, True, False)
    lossy = ["fp16", "bf16", "sign", "topk", "powersgd"]
    assert [name for name in CODECS if not _bridge.Codec(name).keeps_product] == lossy


# V21: unbiased, and no more variance than QSGD's bound.
@pytest.mark.parametrize(("name", "norm"), [("q2", "l2"), ("q2", "max"), ("q3", "l2"), ("q4", "max"), ("q8", "max")])
def test_quantizer_is_unbiased_and_its_variance_is_the_closed_form(name, norm):
    n, draws = 256, 2000
    codec = _bridge.Codec(f"{name}:norm={norm}")
    levels = 2 ** (int(name[1]) - 1) - 1
    x = normal(n, seed=4)
    step = float(oracle.scale_of(x, norm)) / levels
    y = np.array([decoded(codec, encoded(codec, x, round=t), n) for t in range(draws)], np.float64)
    error = y - x

    # One rounding is Bernoulli: f the fraction of x above the step below, variance step^2 f (1 - f).
    f = np.mod(x / step, 1.0)
    variance = step**2 * f * (1 - f)
    total = error.mean(axis=0).sum()
    bias_of_v = n * step * 2.0**-17
    assert abs(total) <= 3 * np.sqrt(variance.sum() / draws) + bias_of_v
    # The largest of 256 about normal deviations is above 5 sigma with a probability below 2e-4.
    assert np.all(np.abs(error.mean(axis=0)) <= 5 * np.sqrt(variance / draws) + 1e-4 * step)
    # A squared error has a variance of step^4 f (1 - f) (1 - 2 f)^2 <= step^4 / 16.
    squared = (error**2).sum(axis=1).mean()
    assert abs(squared - variance.sum()) <= 3 * step**2 / 4 * np.sqrt(n / draws) + 1e-4 * step**2 * n
    if norm == "l2":  # QSGD, lemma 3.1
        assert squared <= min(n / levels**2, np.sqrt(n) / levels) * float((x.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("name", NAMES)
def test_frames_hold_the_payloads_of_their_senders(name):
    codec, x = _bridge.Codec(name), normal(4, 300)
    senders = np.array([3, 0, 9, 2**32 - 1], np.uint32)
    frames = framed(codec, x, senders)
    out = np.empty_like(x)
    _bridge.decode_frames(checked(codec, frames, 300, senders=senders), out)
    for row, sender in enumerate(senders):
        payload = encoded(codec, x[row], seed=5, round=4, client=int(sender))
        np.testing.assert_array_equal(frames[row, _bridge.HEADER_BYTES :], payload)
        np.testing.assert_array_equal(out[row], decoded(codec, payload, 300))


def test_every_flipped_byte_is_refused_with_its_row():
    codec, x = _bridge.Codec("q4"), normal(3, 64)
    frames = framed(codec, x)
    whole = np.empty_like(x)
    _bridge.decode_frames(checked(codec, frames, 64), whole)
    for at in range(frames.shape[1]):
        frames[1, at] ^= 0x10
        found = _bridge.check_frames(codec, frames, 64, partial=True, **ids(3))
        assert [row for row, _ in found.faults] == [1]
        assert found.refused.tolist() == [False, True, False]
        out = np.full_like(x, 9.0)
        _bridge.decode_frames(found, out)
        np.testing.assert_array_equal(out, whole * [[1], [0], [1]])
        del found
        frames[1, at] ^= 0x10


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"run_id": bytes(16)}, {0: "run id", 1: "run id"}),
        ({"manifest": bytes(16)}, {0: "manifest", 1: "manifest"}),
        ({"round": np.array([5, 4], np.uint64)}, {0: "round=4, but round 5 was expected"}),
        ({"senders": np.array([0, 2], np.uint32)}, {1: "sender=1, but sender 2 was expected"}),
        ({"codec": _bridge.Codec("q4:norm=l2")}, dict.fromkeys((0, 1), "codec id=0x00010404, but 0x00020404")),
        ({"codec": _bridge.Codec("q4:block=128")}, dict.fromkeys((0, 1), "block=256, but 128")),
        ({"d": 60}, dict.fromkeys((0, 1), "it has 132 bytes instead of 130")),
    ],
)
def test_a_frame_that_is_not_the_expected_message_is_refused_by_field(change, text):
    frames = framed(_bridge.Codec("q4"), normal(2, 64))
    expected = {"codec": _bridge.Codec("q4"), "d": 64} | ids(2) | change
    found = dict(
        _bridge.check_frames(expected.pop("codec"), frames, expected.pop("d"), partial=True, **expected).faults
    )
    assert found.keys() == text.keys()
    assert all(found[row].startswith(text[row]) for row in text)


def test_a_refused_frame_is_an_error_unless_the_others_are_wanted():
    frames = framed(_bridge.Codec("q4"), normal(2, 64))
    frames[1, 60] ^= 1
    with pytest.raises(errors.FrameError, match="the message of client 1 was refused: header checksum"):
        _bridge.check_frames(_bridge.Codec("q4"), frames, 64, **ids(2))
    with pytest.raises(errors.FrameError, match="the message of client 0 was refused: round=4, but round 7"):
        _bridge.check_frames(_bridge.Codec("q4"), frames, 64, **ids(2) | {"round": 7})
    for round in (-1, 2**32):
        with pytest.raises(errors.ConfigError, match=f"round={round} cannot be used"):
            _bridge.check_frames(_bridge.Codec("q4"), frames, 64, **ids(2) | {"round": round})


def test_each_frame_has_a_round_and_a_sender_of_its_own():
    codec, x, out = _bridge.Codec("q4"), normal(3, 300), np.empty((3, 300), np.float32)
    names = ids(3) | {"round": np.array([7, 2**32 - 1, 0], np.uint64), "senders": np.array([9, 9, 4], np.uint32)}
    frames = np.empty((3, 96 + codec.payload_bytes(300)), np.uint8)
    _bridge.encode_frames(codec, x, frames, seed=5, **names)
    for row, (round, sender) in enumerate(zip(names["round"], names["senders"], strict=True)):
        payload = encoded(codec, x[row], seed=5, round=int(round), client=int(sender))
        np.testing.assert_array_equal(frames[row, 96:], payload)
    _bridge.decode_frames(checked(codec, frames, 300, **names), out)
    with pytest.raises(errors.ConfigError, match="round=4294967296 cannot be used"):
        _bridge.encode_frames(codec, x, frames, seed=5, **names | {"round": np.full(3, 2**32, np.uint64)})


def test_a_refused_frame_moves_no_row():
    codec, x, out = _bridge.Codec("q4"), normal(3, 64), np.empty((3, 64), np.float32)
    frames = framed(codec, x)
    frames[1, 60] ^= 1
    found = _bridge.check_frames(codec, frames, 64, partial=True, **ids(3))
    mixed = x.copy()
    with pytest.raises(errors.FrameError, match="frame 1: header checksum"):
        matrix(ring(3)).mix_frames(found, mixed, 1.0)
    np.testing.assert_array_equal(mixed, x)
    matrix(np.array([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])).mix_frames(found, mixed, 1.0)
    _bridge.decode_frames(found, out)
    np.testing.assert_array_equal(mixed[1], x[1])
    np.testing.assert_array_equal(mixed[0], x[0] + np.float32(0.5) * (out[2] - out[0]))


def test_checked_frames_stay_as_they_were_checked():
    codec, x = _bridge.Codec("q4"), normal(3, 64)
    frames = framed(codec, x)
    found = checked(codec, frames, 64)
    with pytest.raises(ValueError, match="read-only"):
        frames[1, 100] ^= 1
    with pytest.raises(errors.ConfigError, match="out is read-only"):
        _bridge.encode_frames(codec, x, frames, seed=5, **ids(3))
    assert len(found) == 3
    assert repr(found) == "CheckedFrames(frames=3, refused=0)"
    del found
    frames[1, 100] ^= 1
    frames.flags.writeable = False
    _bridge.check_frames(codec, frames, 64, partial=True, **ids(3))
    assert not frames.flags.writeable
    with pytest.raises(TypeError):
        _bridge.CheckedFrames()


def test_a_value_that_cannot_be_sent_is_named_and_its_frame_is_empty():
    x = normal(3, 64)
    x[1, 17] = np.nan
    frames = np.full((3, 96 + 36), 0xAA, np.uint8)
    with pytest.raises(errors.CodecError, match=r"x\[1, 17\]=NaN cannot be encoded by codec \"q4\""):
        _bridge.encode_frames(_bridge.Codec("q4"), x, frames, seed=5, **ids(3))
    assert not frames[1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mixing_is_the_difference_form(dtype):
    weights, x, z = ring(9), normal(9, 4100).astype(dtype), normal(9, 4100, seed=1).astype(dtype)
    mixed = x.copy()
    matrix(weights).mix(z, mixed, 0.7)
    wide = z.astype(np.float64)
    expected = x + 0.7 * (weights @ wide - wide)
    # Four roundings of numbers below 10.
    np.testing.assert_allclose(mixed, expected, atol=40 * np.finfo(dtype).eps, rtol=0)


def test_mixing_preserves_the_mean():
    x = np.random.default_rng(2).standard_normal((16, 1000))
    before = x.mean(axis=0)
    matrix(ring(16)).mix(np.random.default_rng(3).standard_normal(x.shape), x, 1.0)
    np.testing.assert_allclose(x.mean(axis=0), before, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_mixing_in_place_and_from_frames_gives_the_same_bits(name):
    codec, x, w = _bridge.Codec(name), normal(5, 1000), matrix(ring(5))
    frames, z = checked(codec, framed(codec, x), 1000), np.empty_like(x)
    _bridge.decode_frames(frames, z)
    apart, fused, in_place = x.copy(), x.copy(), z.copy()
    w.mix(z, apart, 0.8)
    w.mix_frames(frames, fused, 0.8)
    w.mix_in_place(in_place, 0.8)
    np.testing.assert_array_equal(apart, fused)
    again = z.copy()
    w.mix(z, again, 0.8)
    np.testing.assert_array_equal(in_place, again)


def test_quantized_gossip_keeps_the_mean_over_many_rounds():
    codec, w = _bridge.Codec("q4"), matrix(ring(8))
    x = normal(8, 512)
    before, spread = x.mean(axis=0, dtype=np.float64), _bridge.consensus_distance(x)
    for _ in range(30):
        w.mix_frames(checked(codec, framed(codec, x), 512), x, 1.0)
    # 30 rounds of a few float32 roundings of numbers of about 1.
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), before, atol=1e-5)
    assert _bridge.consensus_distance(x) < 0.1 * spread


@pytest.mark.parametrize(
    ("indptr", "indices", "weights", "text"),
    [
        ([0], [], [], "weights row 0: indptr has 1 items"),
        ([0, 1, 1], [0, 1], [1.0, 1.0], r"weights row 1: indptr\[2\]=1"),
        ([0, 1, 2], [0, 2], [1.0, 1.0], "weights row 1: index 2 is not a client"),
        ([0, 2, 3], [1, 0, 1], [0.5, 0.5, 1.0], "weights row 0: index 0 is out of order"),
        ([0, 1, 3], [0, 0, 1], [1.0, -0.5, 1.5], "weights row 1: weight -0.5 of client 0"),
        ([0, 1, 2], [0, 1], [0.9, 1.0], "weights row 0: weights sum to 0.9; they must sum to 1"),
    ],
)
def test_a_matrix_that_does_not_average_is_refused(indptr, indices, weights, text):
    with pytest.raises(errors.TopologyError, match=text):
        _bridge.MixingMatrix(np.array(indptr), np.array(indices, np.int64), np.array(weights, np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_some_rows_of_a_matrix_give_the_bits_that_they_give_in_it(dtype):
    weights, rows = ring(9), [7, 0, 3]
    whole, some, bad = matrix(weights), rectangle(weights, rows), np.ones(9, np.uint32)
    z, x = normal(9, 300).astype(dtype), normal(9, 300, seed=1).astype(dtype)
    rules = [
        lambda w, x, bad: w.mix(z, x, 0.7),
        lambda w, x, bad: _bridge.clipped(w, z, 1.0).mix(z, x, 0.7),
        lambda w, x, bad: _bridge.clipped_beyond(w, z, bad).mix(z, x, 0.7),
        lambda w, x, bad: _bridge.nearest(w, z, bad).mix(z, x, 0.7),
        lambda w, x, bad: _bridge.krum(w, z, bad * 0, 1).mix(z, x, 0.7),
        lambda w, x, bad: _bridge.trimmed_mean(w, z, x, bad, 0.7),
        lambda w, x, bad: _bridge.median(w, z, x, 0.7),
    ]
    if dtype == np.float32:
        frames = checked(_bridge.Codec("q4"), framed(_bridge.Codec("q4"), z), 300)
        rules.append(lambda w, x, bad: w.mix_frames(frames, x, 0.7))
    for rule in rules:
        among_all, alone = x.copy(), x[rows]
        rule(whole, among_all, bad)
        rule(some, alone, bad[rows])
        np.testing.assert_array_equal(alone, among_all[rows])
    among_all, alone = x.copy(), x[rows]
    _bridge.push(whole, z, among_all, 0.7)
    _bridge.push(whole, z, alone, 0.7, np.array(rows))
    np.testing.assert_array_equal(alone, among_all[rows])


def test_a_rectangle_says_what_it_is_and_where_it_cannot_be_used():
    some = rectangle(ring(5), [4, 1])
    assert (some.local, some.known, some.nnz) == (2, 5, 6)
    assert repr(some) == "MixingMatrix(local=2, known=5, nnz=6)"
    x, square = normal(2, 8), "needs a square matrix whose row i is client i"
    with pytest.raises(errors.TopologyError, match=f"row 0: it is client 4; mixing in place {square}"):
        some.mix_in_place(x, 1.0)
    with pytest.raises(errors.TopologyError, match=f"row 0: it is client 4; push-sum {square}"):
        _bridge.push(some, normal(5, 8), x, 1.0)
    with pytest.raises(errors.TopologyError, match="row 1: own 4 is the place of row 0, too"):
        rectangle(ring(5), [4, 4])
    with pytest.raises(errors.TopologyError, match="row 0: own 5 is not a client; it must be from 0 to 4"):
        _bridge.push(matrix(ring(5)), normal(5, 8), x, 1.0, np.array([5, 0]))
    with pytest.raises(errors.ConfigError, match="z has 24 items, but the other arguments ask for 20"):
        some.mix(normal(3, 8), x, 1.0)
    with pytest.raises(errors.ConfigError, match="x has 40 items, but the other arguments ask for 16"):
        some.mix(normal(5, 8), normal(5, 8), 1.0)


def test_consensus_distance_is_its_definition():
    x = normal(7, 3000)
    wide = x.astype(np.float64)
    expected = np.sqrt(((wide - wide.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert _bridge.consensus_distance(x) == pytest.approx(expected, rel=1e-12)


def test_dropout_masks_are_those_of_the_oracle():
    clients, samples = np.array([0, 5], np.uint32), np.array([3, 2**24 - 1], np.uint32)
    out = np.empty((2, 200), np.float32)
    _bridge.dropout_mask(out, rate=0.25, seed=2**63 + 1, step=9, clients=clients, samples=samples)
    for row in range(2):
        words = (1 | int(samples[row]) << 8, int(clients[row]), 9)
        dropped = np.array([oracle.draw(i, words, 2**63 + 1) < 0.25 * 65536 for i in range(200)])
        np.testing.assert_array_equal(out[row], np.where(dropped, 0, np.float32(1 / 0.75)))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_dropout_rate_outside_its_range_is_refused(rate):
    one = np.zeros(1, np.uint32)
    with pytest.raises(errors.ConfigError, match=r"rate=.* 0 <= rate < 1"):
        _bridge.dropout_mask(np.empty((1, 4), np.float32), rate=rate, seed=0, step=0, clients=one, samples=one)
