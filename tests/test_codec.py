"""Codecs by name, and what their memories keep."""

import numpy as np
import pytest

from declora.codec import CODECS, ErrorFeedback, NoMemory, PublicCopies, parse_codec
from declora.errors import CodecError, ConfigError

CLIENTS, COLUMNS = 4, 700
FIXED = [name for name in CODECS if name[0] == "q" and name[1:].isdigit()] + ["none", "fp16", "bf16"]


def rows_of(seed=0):
    return np.random.default_rng(seed).normal(size=(CLIENTS, COLUMNS)).astype(np.float32)


def through_the_wire(codec, rows, t):
    frames = np.empty((CLIENTS, codec.frame_bytes(COLUMNS)), dtype=np.uint8)
    names = {
        "run_id": b"r" * 16,
        "manifest": b"m" * 16,
        "round": t,
        "senders": np.arange(CLIENTS, dtype=np.uint32),
    }
    codec.encode_frames(rows, frames, seed=1, **names)
    decoded = np.empty_like(rows)
    codec.check_frames(frames, COLUMNS, **names).decode(decoded)
    return decoded


@pytest.mark.parametrize("name", FIXED)
def test_frame_bytes_equal_the_closed_form(name):
    n, bits = 74_498, {"none": 32, "fp16": 16, "bf16": 16}.get(name) or int(name[1:])
    scales = 4 * -(-n // 256) if name.startswith("q") else 0
    assert parse_codec(name).frame_bytes(n) == 96 + scales + -(-n * bits // 8)


def test_a_codec_name_holds_its_options_and_memory():
    codec = parse_codec("q3:block=64,norm=l2+choco")
    assert (str(codec.core), codec.memory) == ("q3:block=64,norm=l2", PublicCopies)
    assert str(parse_codec("q3:norm=l2,block=64+choco")) == str(codec) == "q3:block=64,norm=l2+choco"
    assert str(parse_codec("natural+rans+ef21")) == "natural+rans+ef21"
    assert parse_codec("q4+ef").memory is ErrorFeedback
    assert parse_codec("none").memory is NoMemory


def test_the_step_size_follows_the_contraction_on_normal_numbers():
    """a^2, a quarter of it for error feedback, 1 where a codec is all but exact."""
    gamma = {name: parse_codec(name).default_gamma for name in ("q4", "q8+choco", "q8+ef", "none+ef", "bf16")}
    assert set(gamma.values()) == {1.0}
    for name in ("q2", "q3", "drive", "sign", "topk", "randk", "qsgd"):
        codec = parse_codec(f"{name}+choco")
        assert (
            codec.default_gamma
            == parse_codec(f"{name}+ef21").default_gamma
            == pytest.approx(codec.contraction**2, rel=0.05)
        )
        assert parse_codec(f"{name}+ef").default_gamma == pytest.approx(codec.contraction**2 / 4, rel=0.05)


def test_a_codec_without_a_memory_has_its_own_step_size_too():
    expected = {
        "none": 1, "fp16": 1, "bf16": 1, "q4": 1, "q8": 1, "eden": 1, "eden:bits=3": 1, "natural": 0.85,
        "eden:bits=2": 0.78, "q3": 0.73, "qsgd": 0.53, "drive": 0.41, "q2": 0.17, "randk": 0.0025,
    }  # fmt: skip
    assert {name: parse_codec(name).default_gamma for name in expected} == expected


def test_a_bias_on_few_numbers_does_not_change_what_a_memory_makes_of_a_codec():
    """<z, x> is ||x||^2 for every eden; the values of randk are rounded, which is no bias to speak of."""
    for name in ("drive:rotations=1+choco", "eden:bits=2,block=32+ef21", "randk:values=bf16+choco"):
        codec = parse_codec(name)
        assert not codec.core.unbiased
        assert codec.shrink == codec.contraction == 1 / (1 + codec.error)
        assert 0 < codec.default_gamma < 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drive", np.pi / 2 - 1),  # EDEN's table
        ("eden:bits=2", 0.1331),
        ("sign+choco", 1 - 2 / np.pi),
        ("randk:fraction=0.25,values=none", 3.0),
        # E[x^2; |x| < q] of a standard normal x, q its 97.5th percentile: .95 - 2 q phi(q).
        ("topk:fraction=0.05,values=none+choco", 0.95 - 2 * 1.95996 * 0.058451),
    ],
)
def test_the_error_on_normal_numbers_is_the_closed_form(name, expected):
    # Two digits, of 2^18 numbers: half a unit of the second, and a relative deviation below .005.
    codec = parse_codec(name)
    assert codec.error == pytest.approx(expected, rel=0.055)
    assert codec.contraction == pytest.approx(1 / (1 + codec.error) if codec.core.keeps_product else 1 - codec.error)
    assert codec.error <= codec.core.error_bound(1 << 16) * 1.01


@pytest.mark.parametrize("name", ["sign", "topk", "powersgd", "topk+rans"])
def test_a_biased_codec_without_memory_is_refused(name):
    with pytest.raises(CodecError, match=r"is biased.*Give it a memory: '.*\+ef' or '.*\+ef21' or '.*\+choco'"):
        parse_codec(name)
    assert parse_codec(f"{name}+choco").memory is PublicCopies


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q9", r"'q9'.*9 bits are outside 2\.\.8"),
        ("q1", r"1 bits are outside 2\.\.8"),
        ("q-3", r"outside 2\.\.8"),
        ("fp61", "Did you mean 'fp16'"),
        ("q4+chocolate", "Did you mean 'choco'"),
        ("q4:blok=32", "Did you mean 'block'"),
        ("q4:block=0", "block=0"),
        ("q4:block=40", "block=40"),
        ("q4:block=many", 'block="many" cannot be used: it must be a whole number'),
        ("q4:norm=l3", "l3"),
        ("q4+choco+rans", r"codec='q4\+choco\+rans': rans shortens what the codec writes. Put it before choco"),
        ("q4+ef+choco", r"codec='q4\+ef\+choco' has two memories, ef and choco. Keep one"),
        ("q4+rans+rans", "has rans twice"),
        ("sign+rans+ef", r"codec='sign\+rans\+ef': stage=.*cannot be shortened"),
        ("none:3", "none takes no options. Write codec='none'"),
        ("q4:64,l2,7", "q4 takes no 3 values. Write e.g. q4:block=...,norm=..."),
        ("q4\u00e9", "codec='q4\u00e9' is not known. Did you mean 'q4'"),
        ("\ud800", r"codec='\\ud800' is not known"),
    ],
)
def test_a_codec_that_does_not_exist_is_refused(text, message):
    with pytest.raises((CodecError, ConfigError), match=message):
        parse_codec(text)


def test_error_feedback_owes_exactly_what_it_has_not_sent():
    """V22: the sum of what was sent plus the memory is the sum of what was to be sent."""
    codec, memory = parse_codec("q2+ef"), ErrorFeedback(shrink=0.45)
    memory.start(rows_of())
    inputs, sent = np.zeros((CLIENTS, COLUMNS)), np.zeros((CLIENTS, COLUMNS))
    for t in range(20):
        rows = rows_of(t)
        outgoing = memory.outgoing(rows)
        public = memory.public(through_the_wire(codec, outgoing, t))
        memory.remember(outgoing, public, np.zeros(CLIENTS, dtype=bool))
        inputs += rows
        sent += public
    # 20 rounds of float32 sums of magnitude up to about 30: 20 * 30 * 2^-24.
    np.testing.assert_allclose(sent + memory.state, inputs, atol=4e-5)


def test_public_copies_approach_what_they_copy():
    """EF21's invariant: for a constant x, the copy's error falls geometrically."""
    codec, memory, rows = parse_codec("q4+choco"), PublicCopies(), rows_of()
    memory.start(np.zeros_like(rows))
    errors = []
    for t in range(8):
        outgoing = memory.outgoing(rows)
        public = memory.public(through_the_wire(codec, outgoing, t))
        memory.remember(outgoing, public, np.zeros(CLIENTS, dtype=bool))
        errors.append(float(np.linalg.norm(rows - public) / np.linalg.norm(rows)))
    # One q4 message leaves at most max|x| / (7 * sqrt(12)) per value, about 0.12 of a normal block's norm.
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    assert errors[0] < 0.2
    assert ratios.max() < 0.3
