"""Codecs by name, and what their memories keep."""

import numpy as np
import pytest

from declora import _bridge
from declora.codec import CODECS, ErrorFeedback, NoMemory, PublicCopies, parse_codec
from declora.errors import CodecError, ConfigError

CLIENTS, COLUMNS = 4, 700


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
    _bridge.encode_frames(codec.core, rows, frames, seed=1, **names)
    decoded = np.empty_like(rows)
    _bridge.decode_frames(codec.core, frames, decoded)
    return decoded


@pytest.mark.parametrize("name", CODECS)
def test_frame_bytes_equal_the_closed_form(name):
    n, bits = 74_498, {"none": 32, "fp16": 16, "bf16": 16}.get(name) or int(name[1:])
    scales = 4 * -(-n // 256) if name.startswith("q") else 0
    assert parse_codec(name).frame_bytes(n) == 96 + scales + -(-n * bits // 8)


def test_a_codec_name_holds_its_options_and_memory():
    codec = parse_codec("q3:block=64,norm=l2+choco")
    assert (codec.core.name, codec.core.block, codec.core.norm, codec.memory) == (
        "q3",
        64,
        "l2",
        PublicCopies,
    )
    assert parse_codec("q4+ef").memory is ErrorFeedback
    assert parse_codec("none").memory is NoMemory
    assert parse_codec("q4").default_gamma == parse_codec("q8+choco").default_gamma == 1.0
    assert 1.0 > parse_codec("q2").default_gamma > parse_codec("q2+choco").default_gamma


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
        ("q4:block=many", "block='many' is not a whole number"),
        ("q4:norm=l3", "l3"),
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
        public = memory.public(outgoing, through_the_wire(codec, outgoing, t))
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
        public = memory.public(outgoing, through_the_wire(codec, outgoing, t))
        errors.append(float(np.linalg.norm(rows - public) / np.linalg.norm(rows)))
    # One q4 message leaves at most max|x| / (7 * sqrt(12)) per value, about 0.12 of a normal block's norm.
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    assert errors[0] < 0.2
    assert ratios.max() < 0.3
