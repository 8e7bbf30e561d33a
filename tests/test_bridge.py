"""The doorway to the Rust core: clear errors, one exception tree, nothing copied, the GIL released."""

import threading
import time

import numpy as np
import pytest
import torch

from core_calls import DRAWS, NAMES, checked, decoded, encoded, framed, ids, matrix, normal, ring
from declora import _bridge, errors


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((1, 64)), r'x has dtype float64, but must be .* float32; use x.astype\("float32"\)'),
        (np.zeros((1, 64), ">f4"), "x has dtype >f4"),
        (np.zeros((1, 128), np.float32)[:, ::2], "x is not contiguous.*use numpy.ascontiguousarray"),
        (np.zeros(64, np.float32), r"x has shape \[64\].*2-dimensional"),
        (np.frombuffer(bytes(64 * 4 + 1), np.uint8)[1:].view(np.float32)[None], "x is not aligned"),
        ([[0.0] * 64], "x is a list"),
        (None, "x is a NoneType"),
        (torch.zeros(1, 64, dtype=torch.bfloat16), r"x has dtype torch.bfloat16, which numpy lacks; use x.float\(\)"),
        (torch.zeros(1, 64, dtype=torch.float64), "x has dtype float64"),
        (torch.zeros(1, 64, device="meta"), r"x is on meta, but the core works on the CPU; use x.cpu\(\)"),
        (torch.zeros(1, 128)[:, ::2], "x is not contiguous"),
    ],
)
def test_bridge_rejects_input_that_is_not_a_contiguous_float32_array(x, text):
    with pytest.raises(errors.ConfigError, match=text):
        _bridge.consensus_distance(x)


def test_bridge_rejects_read_only_output():
    out = np.empty(256, np.uint8)
    out.flags.writeable = False
    with pytest.raises(errors.ConfigError, match=r"out is read-only, but it is written; pass out.copy\(\)"):
        _bridge.Codec("none").encode(normal(64), out, **DRAWS)


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
        _bridge.push(w, tensor[:3], tensor[2:5], 1.0)
    _bridge.push(w, tensor[:3], tensor[3:], 1.0)
    raw = np.zeros(64 * 4 + 64, np.uint8)
    with pytest.raises(errors.ConfigError, match="out overlaps"):
        _bridge.Codec("none").encode(raw[64:].view(np.float32), raw[:256], **DRAWS)


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
        _bridge.check_frames(codec, np.zeros((1, 132), np.uint8), 64, **(ids(1) | {"run_id": b"abc"}))
    for name in ("round", "senders"):
        names = ids(2) | {name: ids(1)[name]}
        with pytest.raises(errors.ConfigError, match=f"{name}s? has 1 items, but the other arguments ask for 2"):
            _bridge.check_frames(codec, np.zeros((2, 132), np.uint8), 64, **names)
    frames = checked(codec, framed(codec, normal(2, 64)), 64)
    with pytest.raises(errors.ConfigError, match="out has 64 items, but the other arguments ask for 128"):
        _bridge.decode_frames(frames, np.empty((1, 64), np.float32))
    with pytest.raises(errors.ConfigError, match="out has 32 columns, but each of the frames has 64 numbers"):
        _bridge.decode_frames(frames, np.empty((4, 32), np.float32))
    with pytest.raises(errors.ConfigError, match="x has 128 columns, but each of the frames has 64 numbers"):
        matrix(ring(2)).mix_frames(frames, np.empty((1, 128), np.float32), 1.0)


def test_gamma_must_be_finite():
    with pytest.raises(errors.ConfigError, match="gamma=NaN cannot be used: it must be a finite number"):
        matrix(ring(3)).mix_in_place(normal(3, 8), float("nan"))


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"spec": "q9"}, errors.ConfigError, r"codec='q9' is not known\. Did you mean 'q\d'\? Known: bf16, "),
        ({"spec": "q4:block=33"}, errors.CodecError, "block=33 cannot be used: it must be a multiple of 32"),
        ({"spec": "q4:block=-1"}, errors.CodecError, 'block="-1" cannot be used: it must be a whole number'),
        ({"spec": "q4:norm=l1"}, errors.CodecError, 'norm="l1" cannot be used: it must be "max" or "l2"'),
        ({"spec": "q4:nrom=l1"}, errors.ConfigError, "codec option='nrom' is not known. Did you mean 'norm'"),
        ({"spec": "none:block=32"}, errors.CodecError, 'codec option="block" is not known. Options of "none": none'),
        ({"spec": "q4+ran"}, errors.ConfigError, "codec stage='ran' is not known. Did you mean 'rans'"),
        ({"spec": "powersgd", "shapes": [(2, -1)]}, errors.ConfigError, r"shapes=\[\(2, -1\)\] must be a list of"),
        ({"spec": "powersgd", "shapes": [(2**40, 2**40)]}, errors.ConfigError, "it must be at most 2"),
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
    codec = _bridge.Codec("q4:block=32")
    payload = encoded(codec, normal(64))
    payload[4:8] = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)
    out = np.ones(64, np.float32)
    with pytest.raises(errors.FrameError, match="payload: scale of block 1"):
        codec.decode(payload, out)
    assert (out == 1).all()


def robust_calls(z, x, bad):
    """Calls of every rule."""
    w = matrix(ring(3))
    return [
        lambda: _bridge.clipped(w, z, 1.0),
        lambda: _bridge.clipped_beyond(w, z, bad),
        lambda: _bridge.nearest(w, z, bad),
        lambda: _bridge.krum(w, z, bad, 1),
        lambda: _bridge.trimmed_mean(w, z, x, bad, 1.0),
        lambda: _bridge.median(w, z, x, 1.0),
        lambda: _bridge.push(w, z, x, 1.0),
    ]


def test_rules_check_their_arrays():
    z, x, bad = normal(3, 8), normal(3, 8, seed=1), np.zeros(3, np.uint32)
    for call in robust_calls(z, x, bad) + robust_calls(z.astype(np.float64), x.astype(np.float64), bad):
        call()
    cases = [
        ((z.astype(np.float16), x, bad), "z has dtype float16", range(7)),
        ((z[:, ::2], x, bad), "z is not contiguous", range(7)),
        ((z[0], x, bad), "z has shape", range(7)),
        ((z[:2], x[:2], bad), "z has 16 items", range(7)),
        ((z, x[:2], bad), "x has 16 items", (4, 5, 6)),
        ((z, z, bad), "x overlaps", (4, 5, 6)),
        ((z, x, bad.astype(np.int64)), "bad has dtype int64", (1, 2, 3, 4)),
        ((z, x, bad[:2]), "bad has 2 items", (1, 2, 3, 4)),
        ((z, x, np.full(3, 2**32 - 1, np.uint32)), "too few for bad=4294967295", (1, 2, 3, 4)),
        ((z.astype(np.float64), x, bad), "z has dtype float64", (4, 5, 6)),
    ]
    for arguments, text, which in cases:
        calls = robust_calls(*arguments)
        for index in which:
            with pytest.raises(errors.ConfigError, match=text):
                calls[index]()
    with pytest.raises(errors.ConfigError, match="radius=NaN"):
        _bridge.clipped(matrix(ring(3)), z, float("nan"))
    with pytest.raises(errors.ConfigError, match="average=-1 must be an integer"):
        _bridge.krum(matrix(ring(3)), z, bad, -1)


def test_every_error_is_in_the_one_tree():
    bad = np.full(1, np.nan, np.float32)
    calls = [
        lambda: _bridge.Codec("q9"),
        lambda: _bridge.Codec("q4:block=1"),
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


def test_tensors_are_viewed_not_copied():
    x = torch.randn(3, 8, requires_grad=True)
    z, expected = normal(3, 8), x.detach().numpy().copy()
    _bridge.push(matrix(ring(3)), z, expected, 1.0)
    _bridge.push(matrix(ring(3)), torch.from_numpy(z), x, 1.0)
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
            w.mix_frames(checked(codec, frames, x.shape[1]), mixed, 0.9)
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
