"""The Rust core as Python sees it: same bytes as the oracle, clear errors, nothing copied, the GIL released."""

import json
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import quantizer_oracle as oracle
from declora import _bridge, errors

NAMES = ("none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8")
DRAWS = {"seed": 7, "round": 3, "client": 11}
IDS = {"run_id": b"0123456789abcdef", "manifest": bytes(range(16)), "round": 4}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def encoded(codec, x, **draws):
    out = np.full(codec.payload_bytes(len(x)), 0xAA, np.uint8)
    codec.encode(x, out, **(DRAWS | draws))
    return out


def decoded(codec, payload, n):
    out = np.full(n, np.nan, np.float32)
    codec.decode(payload, out)
    return out


def framed(codec, x, senders=None):
    senders = np.arange(len(x), dtype=np.uint32) if senders is None else senders
    out = np.empty((len(x), _bridge.HEADER_BYTES + codec.payload_bytes(x.shape[1])), np.uint8)
    _bridge.encode_frames(codec, x, out, senders=senders, seed=5, **IDS)
    return out


def ring(n):
    eye = sp.eye_array(n, format="csr")
    return (eye + eye[np.roll(np.arange(n), 1)] + eye[np.roll(np.arange(n), -1)]).tocsr() / 3


def matrix(weights):
    weights = sp.csr_array(weights)
    weights.sort_indices()
    return _bridge.MixingMatrix(
        weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data.astype(np.float64)
    )


# The bytes -----------------------------------------------------------------------------------------------------


def test_value_stability_of_the_quantizer():
    cases = json.loads(oracle.GOLDEN.read_text())
    assert len(cases) >= 20
    for case in cases:
        codec = _bridge.Codec(f"q{case['bits']}", block=case["block"], norm=case["norm"])
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
    codec = _bridge.Codec(f"q{bits}", block=32 * block, norm=norm)
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
        assert _bridge.philox4x32_10(counter, key) == words == oracle.philox4x32_10(counter, key)


def test_crc32c_is_that_of_rfc_3720():
    assert _bridge.crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_halves_are_those_of_torch(name):
    codec = _bridge.Codec(name)
    x = normal(5000) * np.float32(10.0) ** np.random.default_rng(1).integers(-8, 4, 5000).astype(np.float32)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[name]
    expected = torch.from_numpy(x).to(dtype).float().numpy()
    np.testing.assert_array_equal(decoded(codec, encoded(codec, x), len(x)), expected)


@pytest.mark.parametrize("n", [0, 1, 31, 256, 257, 10_007])
def test_payload_bytes_is_the_closed_form(n):
    assert _bridge.Codec("none").payload_bytes(n) == 4 * n
    assert _bridge.Codec("fp16").payload_bytes(n) == _bridge.Codec("bf16").payload_bytes(n) == 2 * n
    for bits in range(2, 9):
        expected = 4 * -(-n // 64) + -(-n * bits // 8)
        assert _bridge.Codec(f"q{bits}", block=64).payload_bytes(n) == expected


def test_a_codec_says_what_it_is():
    codec = _bridge.Codec("q4", block=64, norm="l2")
    assert (codec.name, codec.block, codec.norm, codec.id) == ("q4", 64, "l2", 0x00020404)
    assert repr(codec) == 'Codec("q4", block=64, norm="l2")'
    assert codec == _bridge.Codec("q4", block=64, norm="l2")
    assert codec != _bridge.Codec("q4", block=64)
    assert len({codec, _bridge.Codec("q4", block=64, norm="l2"), _bridge.Codec("none")}) == 2
    plain = _bridge.Codec("none")
    assert (plain.block, plain.norm, repr(plain)) == (0, "none", 'Codec("none")')
    assert [name for name in NAMES if not _bridge.Codec(name).unbiased] == ["fp16", "bf16"]
    assert all(_bridge.Codec(name).memory_free for name in NAMES)


# V21: unbiased, and no more variance than QSGD's bound -----------------------------------------------------------


@pytest.mark.parametrize(("name", "norm"), [("q2", "l2"), ("q2", "max"), ("q3", "l2"), ("q4", "max"), ("q8", "max")])
def test_quantizer_is_unbiased_and_its_variance_is_the_closed_form(name, norm):
    n, draws = 256, 2000
    codec = _bridge.Codec(name, norm=norm)
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


# Frames --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_frames_hold_the_payloads_of_their_senders(name):
    codec, x = _bridge.Codec(name), normal(4, 300)
    senders = np.array([3, 0, 9, 2**32 - 1], np.uint32)
    frames = framed(codec, x, senders)
    _bridge.check_frames(codec, frames, 300, senders=senders, **IDS)
    out = np.empty_like(x)
    _bridge.decode_frames(codec, frames, out)
    for row, sender in enumerate(senders):
        payload = encoded(codec, x[row], seed=5, round=4, client=int(sender))
        np.testing.assert_array_equal(frames[row, _bridge.HEADER_BYTES :], payload)
        np.testing.assert_array_equal(out[row], decoded(codec, payload, 300))


def test_every_flipped_byte_is_refused_with_its_row():
    codec, x = _bridge.Codec("q4"), normal(3, 64)
    frames = framed(codec, x)
    senders = np.arange(3, dtype=np.uint32)
    for at in range(frames.shape[1]):
        frames[1, at] ^= 0x10
        with pytest.raises(errors.FrameError, match="frame 1: "):
            _bridge.check_frames(codec, frames, 64, senders=senders, **IDS)
        frames[1, at] ^= 0x10
    _bridge.check_frames(codec, frames, 64, senders=senders, **IDS)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"run_id": bytes(16)}, "frame 0: run id"),
        ({"manifest": bytes(16)}, "frame 0: manifest"),
        ({"round": 5}, "round=4, but round 5 was expected"),
        ({"senders": np.array([0, 2], np.uint32)}, "frame 1: sender=1, but sender 2 was expected"),
        ({"codec": _bridge.Codec("q4", norm="l2")}, "codec id=0x00010404, but 0x00020404"),
        ({"codec": _bridge.Codec("q4", block=128)}, "block=256, but 128"),
        ({"d": 60}, "it has 132 bytes instead of 130"),
    ],
)
def test_a_frame_that_is_not_the_expected_message_is_refused_by_field(change, text):
    frames = framed(_bridge.Codec("q4"), normal(2, 64))
    expected = {"codec": _bridge.Codec("q4"), "d": 64, "senders": np.arange(2, dtype=np.uint32)} | IDS | change
    with pytest.raises(errors.FrameError, match=text):
        _bridge.check_frames(expected.pop("codec"), frames, expected.pop("d"), **expected)


def test_a_value_that_cannot_be_sent_is_named_and_its_frame_is_empty():
    x = normal(3, 64)
    x[1, 17] = np.nan
    frames = np.full((3, 96 + 36), 0xAA, np.uint8)
    with pytest.raises(errors.CodecError, match=r"x\[1, 17\]=NaN cannot be encoded by codec \"q4\""):
        _bridge.encode_frames(_bridge.Codec("q4"), x, frames, senders=np.arange(3, dtype=np.uint32), seed=5, **IDS)
    assert not frames[1].any()


# Mixing ----------------------------------------------------------------------------------------------------------


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
    frames, z = framed(codec, x), np.empty_like(x)
    _bridge.decode_frames(codec, frames, z)
    apart, fused, in_place = x.copy(), x.copy(), z.copy()
    w.mix(z, apart, 0.8)
    w.mix_frames(codec, frames, fused, 0.8)
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
        w.mix_frames(codec, framed(codec, x), x, 1.0)
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


# Statistics and masks --------------------------------------------------------------------------------------------


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


# What cannot be borrowed is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros(64), r'x has dtype float64, but must be .* float32; use x.astype\("float32"\)'),
        (np.zeros(64, ">f4"), "x has dtype >f4"),
        (np.zeros(128, np.float32)[::2], "x is not contiguous.*use numpy.ascontiguousarray"),
        (np.zeros((2, 32), np.float32), r"x has shape \[2, 32\].*1-dimensional"),
        (np.frombuffer(bytes(64 * 4 + 1), np.uint8)[1:].view(np.float32), "x is not aligned"),
        ([0.0] * 64, "x is a list"),
        (None, "x is a NoneType"),
        (torch.zeros(64, dtype=torch.bfloat16), r"x has dtype torch.bfloat16, which numpy lacks; use x.float\(\)"),
        (torch.zeros(64, dtype=torch.float64), "x has dtype float64"),
        (torch.zeros(64, device="meta"), r"x is on meta, but the core works on the CPU; use x.cpu\(\)"),
        (torch.zeros(128)[::2], "x is not contiguous"),
    ],
)
def test_bridge_rejects_input_that_is_not_a_contiguous_float32_array(x, text):
    with pytest.raises(errors.ConfigError, match=text):
        _bridge.encode(_bridge.Codec("none"), x, np.empty(256, np.uint8), **DRAWS)


def test_bridge_rejects_read_only_output():
    out = np.empty(256, np.uint8)
    out.flags.writeable = False
    with pytest.raises(errors.ConfigError, match=r"out is read-only, but it is written; pass out.copy\(\)"):
        _bridge.encode(_bridge.Codec("none"), normal(64), out, **DRAWS)


def test_bridge_accepts_read_only_input():
    x = normal(64)
    x.flags.writeable = False
    np.testing.assert_array_equal(encoded(_bridge.Codec("none"), x).view(np.float32), x)


def test_bridge_rejects_overlapping_arrays():
    memory, w = normal(6, 8), matrix(ring(3))
    with pytest.raises(errors.ConfigError, match="x overlaps"):
        w.mix(memory[:3], memory[2:5], 1.0)
    tensor = torch.zeros(6, 8)
    with pytest.raises(errors.ConfigError, match="x overlaps z in memory; pass an array of its own"):
        _bridge.mix(w, tensor[:3], tensor[2:5], 1.0)
    _bridge.mix(w, tensor[:3], tensor[3:], 1.0)
    raw = np.zeros(64 * 4 + 64, np.uint8)
    with pytest.raises(errors.ConfigError, match="out overlaps"):
        _bridge.encode(_bridge.Codec("none"), raw[64:].view(np.float32), raw[:256], **DRAWS)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": -1}, r"seed=-1 must be an integer from 0 to 2\^64 - 1"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be"),
        ({"round": 2**32}, r"round=4294967296 must be an integer from 0 to 2\^32 - 1"),
        ({"client": 1.5}, "client=1.5 must be an integer"),
        ({"client": "a"}, "client='a' must be an integer"),
    ],
)
def test_integers_out_of_range_are_refused(change, text):
    with pytest.raises(errors.ConfigError, match=text):
        encoded(_bridge.Codec("q4"), normal(64), **change)


def test_integers_of_numpy_are_integers():
    codec, x = _bridge.Codec("q4"), normal(64)
    payload = encoded(codec, x, seed=np.uint64(7), round=np.int64(3), client=np.uint32(11))
    np.testing.assert_array_equal(payload, encoded(codec, x))


def test_sizes_that_do_not_fit_are_refused():
    codec = _bridge.Codec("q4")
    with pytest.raises(errors.ConfigError, match="out has 9 items, but the other arguments ask for 36"):
        codec.encode(normal(64), np.empty(9, np.uint8), **DRAWS)
    with pytest.raises(errors.FrameError, match="it has 35 bytes instead of 36"):
        codec.decode(np.zeros(35, np.uint8), np.empty(64, np.float32))
    with pytest.raises(errors.ConfigError, match="x has 32 items, but the other arguments ask for 24"):
        matrix(ring(3)).mix(normal(3, 8), normal(4, 8), 1.0)
    with pytest.raises(errors.ConfigError, match="n=34359738369 cannot be used: it must be at most 2"):
        codec.payload_bytes(2**35 + 1)
    with pytest.raises(errors.ConfigError, match="run_id has 3 bytes; it must have 16"):
        _bridge.check_frames(
            codec, np.zeros((1, 132), np.uint8), 64, senders=np.zeros(1, np.uint32), **(IDS | {"run_id": b"abc"})
        )


def test_gamma_must_be_finite():
    with pytest.raises(errors.ConfigError, match="gamma=NaN cannot be used: it must be a finite number"):
        matrix(ring(3)).mix_in_place(normal(3, 8), float("nan"))


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"name": "q9"}, errors.ConfigError, r"codec='q9' is not known\. Did you mean 'q\d'\? Known: bf16, "),
        ({"name": "q4", "block": 33}, errors.CodecError, "block=33 cannot be used: it must be a multiple of 32"),
        ({"name": "q4", "block": -1}, errors.ConfigError, "block=-1 must be an integer"),
        ({"name": "q4", "norm": "l1"}, errors.CodecError, 'norm="l1" cannot be used: it must be "max" or "l2"'),
    ],
)
def test_codec_settings_out_of_range_are_refused(arguments, kind, text):
    with pytest.raises(kind, match=text):
        _bridge.Codec(**arguments)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_named(name, bad):
    x = normal(20_000)
    x[[12_345, 19_000]] = bad
    with pytest.raises(errors.CodecError, match=rf"x\[12345\]=.* cannot be encoded by codec \"{name}\""):
        encoded(_bridge.Codec(name), x)


def test_a_payload_that_cannot_be_decoded_writes_nothing():
    codec = _bridge.Codec("q4", block=32)
    payload = encoded(codec, normal(64))
    payload[4:8] = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)
    out = np.ones(64, np.float32)
    with pytest.raises(errors.FrameError, match="payload: scale of block 1"):
        codec.decode(payload, out)
    assert (out == 1).all()


def test_every_error_is_in_the_one_tree():
    bad = np.full(1, np.nan, np.float32)
    calls = [
        lambda: _bridge.Codec("q9"),
        lambda: _bridge.Codec("q4", block=1),
        lambda: encoded(_bridge.Codec("q4"), bad),
        lambda: decoded(_bridge.Codec("q4"), np.zeros(1, np.uint8), 1),
        lambda: _bridge.MixingMatrix(*(np.zeros(0, t) for t in (np.int64, np.int64, np.float64))),
        lambda: _bridge.crc32c([1]),
        lambda: _bridge.set_threads(-1),
    ]
    for call in calls:
        with pytest.raises(errors.DecloraError):
            call()
    assert issubclass(errors.FrameError, errors.CodecError)


# Memory and threads ----------------------------------------------------------------------------------------------


def test_tensors_are_viewed_not_copied():
    x = torch.randn(3, 8, requires_grad=True)
    expected = x.detach().numpy().copy()
    matrix(ring(3)).mix_in_place(expected, 1.0)
    _bridge.mix_in_place(matrix(ring(3)), x, 1.0)
    np.testing.assert_array_equal(x.detach().numpy(), expected)


def test_the_gil_is_released_while_the_core_works():
    codec, x = _bridge.Codec("q4"), np.ones(1 << 23, np.float32)
    out, span, ticks = np.empty(codec.payload_bytes(x.size), np.uint8), [], []

    def work():
        span.append(time.perf_counter())
        codec.encode(x, out, **DRAWS)
        span.append(time.perf_counter())

    before = _bridge.threads()
    _bridge.set_threads(1)
    worker = threading.Thread(target=work)
    worker.start()
    while worker.is_alive():
        ticks.append(time.perf_counter())
    worker.join()
    _bridge.set_threads(0)
    assert _bridge.threads() == before
    start, end = span
    # Holding the GIL, the call would leave no tick in the middle half of its time.
    quarter = (end - start) / 4
    assert sum(start + quarter < tick < end - quarter for tick in ticks) > 10


def test_results_do_not_depend_on_the_number_of_threads():
    codec, x, w = _bridge.Codec("q4"), normal(6, 40_001), matrix(ring(6))
    results = []
    try:
        for threads in (1, 2, 3):
            _bridge.set_threads(threads)
            assert _bridge.threads() == threads
            mixed = x.copy()
            frames = framed(codec, x)
            w.mix_frames(codec, frames, mixed, 0.9)
            results.append((frames.tobytes(), mixed.tobytes(), _bridge.consensus_distance(x)))
    finally:
        _bridge.set_threads(0)
    assert results[0] == results[1] == results[2]


def test_one_array_can_be_read_by_two_threads_and_written_by_one():
    codec, x = _bridge.Codec("q4"), np.ones(1 << 22, np.float32)
    outs = [np.empty(codec.payload_bytes(x.size), np.uint8) for _ in range(2)]
    workers = [threading.Thread(target=codec.encode, args=(x, out), kwargs=DRAWS) for out in outs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(*outs)
