"""The schemes beside q2 to q8: the bytes of the oracle, the entropy stage, what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemes_oracle as oracle
from core_calls import checked, decoded, encoded, ids, normal
from declora import _bridge, errors


def test_value_stability_of_the_schemes():
    cases = json.loads(oracle.GOLDEN.read_text())
    assert {case["codec"] for case in cases} == set(oracle.SCHEMES)
    for case in cases:
        codec, x = _bridge.Codec(case["codec"]), np.frombuffer(bytes.fromhex(case["x"]), "<f4")
        payload = encoded(codec, x, seed=int(case["seed"]), round=case["round"], client=case["client"])
        assert payload.tobytes().hex() == case["payload"], case["codec"]
        assert decoded(codec, payload, len(x)).tobytes().hex() == case["z"], case["codec"]


@settings(max_examples=100, deadline=None)
@given(
    spec=st.sampled_from(sorted(oracle.SCHEMES)),
    x=st.lists(
        st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda x: x == 0 or abs(x) > 1e-25), min_size=1, max_size=150
    ),
    seed=st.integers(0, 2**64 - 1),
    round=st.integers(0, 2**32 - 1),
    client=st.integers(0, 2**32 - 1),
)
def test_schemes_match_the_oracle(spec, x, seed, round, client):
    x = np.array(x, np.float32)
    if "eden" in spec or "drive" in spec or "qsgd" in spec:
        x[0] = 1.0 + abs(x[0])  # a block of zeros has a form of its own, which other tests hold
        x[::32] = x[0]
    payload, z = oracle.SCHEMES[spec](x, seed, round, client)
    codec = _bridge.Codec(spec)
    sent = encoded(codec, x, seed=seed, round=round, client=client)
    assert sent.tobytes() == payload
    np.testing.assert_array_equal(decoded(codec, sent, len(x)), z)


@pytest.mark.parametrize("name", ["none", "bf16", "q2", "q3", "q4", "q7", "q8", "natural", "eden:bits=3", "topk"])
def test_the_entropy_stage_holds_the_same_bytes(name):
    n = 5000
    x = normal(n)
    x[:2000] = 0.0
    plain, codec = _bridge.Codec(name), _bridge.Codec(f"{name}+rans")
    expected = encoded(plain, x)
    out = np.full(codec.payload_bytes(n), 0xAA, np.uint8)
    used = codec.encode(x, out, seed=7, round=3, client=11)
    assert not out[used:].any()
    widths = {"none": (0, 4 * n, 4), "bf16": (0, 2 * n, 2), "natural": (0, n, 1)}
    bits = int(name[1]) if name[0] == "q" else 8
    scales = 4 * -(-n // 256)
    part = widths.get(name, (scales, -(-n * bits // 8), 1 if bits in (2, 4, 8) else bits))
    if name == "topk":
        part = (len(expected) - 250, 250, 1)
    if name.startswith("eden"):
        part = (8 + 8, (4096 + 1024) * 3 // 8, 3)
    assert oracle.unrans(out[:used].tobytes(), *part, len(expected)) == expected.tobytes()
    np.testing.assert_array_equal(decoded(codec, out[:used], n), decoded(plain, expected, n))
    # 40 of 100 numbers are zero; of two bits it takes less than .9, of eight less than six.
    assert used < {"q2": 0.7, "q8": 0.9, "natural": 0.7}.get(name, 1.0) * len(expected) + 100


def test_a_frame_of_variable_length_is_as_long_as_its_header_says():
    codec, n = _bridge.Codec("natural+rans"), 1000
    x = np.stack([np.zeros(n, np.float32), normal(n)])
    frames = np.empty((2, 96 + codec.payload_bytes(n)), np.uint8)
    names = ids(2)
    _bridge.encode_frames(codec, x, frames, seed=1, **names)
    sizes = _bridge.frame_bytes(codec, frames, n)
    assert sizes[0] < sizes[1] < frames.shape[1]
    assert all(frames[row, 64:72].view(np.uint64)[0] == sizes[row] - 96 for row in range(2))
    assert not any(frames[row, sizes[row] :].any() for row in range(2))
    out = np.empty_like(x)
    _bridge.decode_frames(checked(codec, frames, n), out)
    np.testing.assert_array_equal(out[0], x[0])
    for at in (64, 100, sizes[1] - 1):
        damaged = frames.copy()
        damaged[1, at] ^= 1
        assert _bridge.check_frames(codec, damaged, n, partial=True, **names).refused.tolist() == [False, True]


def test_powersgd_needs_the_shapes_of_its_matrices():
    codec = _bridge.Codec("powersgd:rank=1", shapes=[(20, 30), (1, 5)])
    assert (codec.elements, codec.payload_bytes(605)) == (605, 4 * (50 + 5))
    with pytest.raises(errors.ConfigError, match=r"x has 600 numbers, but codec \"powersgd\" was given shapes of 605"):
        codec.payload_bytes(600)
    u, v = normal(20, seed=1), normal(30, seed=2)
    x = np.concatenate([np.outer(u, v).ravel(), normal(5)])
    z = decoded(codec, encoded(codec, x), 605)
    np.testing.assert_allclose(z, x, atol=1e-5)
    np.testing.assert_array_equal(z[600:], x[600:])
