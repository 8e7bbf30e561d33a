"""Codecs of the user's own: what they may do, and what is said of a mistake."""

import operator
from functools import partial

import numpy as np
import pytest
import torch

import declora
from declora import testing
from declora.codec import ErrorFeedback, PublicCopies, parse_codec
from declora.errors import CodecError, ConfigError, FrameError
from declora.spec import spelled
from federations import Damaged, federation_of, gossip_of, rows_of

COLUMNS = 50
NAMES = {"run_id": b"r" * 16, "manifest": b"m" * 16, "round": 2, "senders": np.arange(3, dtype=np.uint32)}


class Half(declora.Codec):
    """float16, whose rounding errors are no bias to speak of."""

    unbiased = True

    def payload_bytes(self, n):
        return 2 * n

    def encode(self, x, *, seed, round, client):
        return x.astype(np.float16).tobytes()

    def decode(self, payload, n):
        return np.frombuffer(payload, np.float16).astype(np.float32)


class First(declora.Codec):
    """The first numbers, and zeros: biased, and of any length up to its most."""

    variable_length = True

    def __init__(self, share=0.5, memory="choco"):
        self.share, self.memory = share, memory

    def payload_bytes(self, n):
        return 4 * n

    def encode(self, x, *, seed, round, client):
        return x[: int(self.share * len(x))].tobytes()

    def decode(self, payload, n):
        z = np.zeros(n, np.float32)
        z[: len(payload) // 4] = np.frombuffer(payload, np.float32)
        return z


def changed(base=Half, **methods):
    """Returns an object of the class with some of its methods replaced."""
    return type("Mine", (base,), methods)()


def framed(codec, rows):
    frames = np.full((3, codec.frame_bytes(COLUMNS)), 0xAA, dtype=np.uint8)
    codec.encode_frames(rows, frames, seed=1, **NAMES)
    return frames, codec.frame_sizes(frames, COLUMNS)


@pytest.mark.parametrize("own", [Half(), First(0.3)])
def test_frames_of_an_own_codec_hold_its_payload_and_decode_to_its_numbers(own):
    codec, rows = parse_codec(own), rows_of(3, COLUMNS).numpy()
    frames, sizes = framed(codec, rows)
    payloads = [own.encode(row, seed=1, round=2, client=i) for i, row in enumerate(rows)]
    assert sizes.tolist() == [96 + len(payload) for payload in payloads]
    assert [frame[96:size].tobytes() for frame, size in zip(frames, sizes, strict=True)] == payloads
    assert not any(frame[size:].any() for frame, size in zip(frames, sizes, strict=True))
    checked, decoded = codec.check_frames(frames, COLUMNS, **NAMES), np.empty_like(rows)
    assert checked.faults == []
    checked.decode(decoded)
    np.testing.assert_array_equal(decoded, [own.decode(payload, COLUMNS) for payload in payloads])


def test_frames_of_an_own_codec_are_refused_one_by_one_with_the_reason():
    codec, rows = parse_codec(Half()), rows_of(3, COLUMNS).numpy()
    frames, _ = framed(codec, rows)
    frames[1, 100] ^= 1
    checked, decoded = codec.check_frames(frames, COLUMNS, **NAMES), np.empty_like(rows)
    assert checked.faults == [(1, "payload checksum does not match: it was damaged on the way.")]
    assert checked.refused.tolist() == [False, True, False]
    checked.decode(decoded)
    assert decoded[0].any()
    assert not decoded[1].any()
    for name, value, why in [
        ("round", 3, "round=2, but round 3"), ("run_id", b"x" * 16, "another run"), ("manifest", b"x" * 16, "manifest"),
        ("senders", NAMES["senders"][::-1].copy(), "sender=0, but sender 2"),
    ]:  # fmt: skip
        assert why in codec.check_frames(frames, COLUMNS, **{**NAMES, name: value}).faults[0][1]
    assert "bytes instead of" in codec.check_frames(frames[:, 1:].copy(), COLUMNS, **NAMES).faults[2][1]


@pytest.mark.parametrize("memory", ["none", "choco", "ef21", "ef"])
def test_gossip_with_an_own_codec_is_that_of_the_same_codec_of_the_core(memory):
    own = changed(memory=memory, unbiased=memory == "none")  # the core's fp16 is not, so that no memory shrinks it
    rows = [rows_of(10, COLUMNS), rows_of(10, COLUMNS)]
    text = "fp16" if memory == "none" else f"fp16+{memory}"
    for codec, values in zip((own, text), rows, strict=True):
        gossip = gossip_of(federation_of("ring", codec=codec), torch.zeros(10, COLUMNS), gamma=0.7)
        for t in range(3):
            traffic = gossip.round(t, values)
            assert traffic.bytes_sent.tolist() == [2 * (96 + 2 * COLUMNS)] * 10
    assert torch.equal(*rows)


def test_a_memory_makes_public_copies_of_what_an_own_codec_sends():
    codec = parse_codec(First(0.5))
    assert codec.memory is PublicCopies
    assert str(codec) == codec.name == "First(share=0.5, memory='choco')+choco"
    assert parse_codec(First(memory="ef")).memory is ErrorFeedback
    # Half the numbers of a normal vector are half its square norm; a^2 is the step size.
    assert codec.error == pytest.approx(0.5, abs=0.01)
    assert codec.shrink == 1
    assert codec.default_gamma == pytest.approx(0.25, abs=0.01)


def test_bytes_that_an_own_codec_refuses_are_refused_with_its_reason():
    def encode(self, x, *, client, **draws):
        return bytes([client % 2]) * (2 * len(x))

    def decode(self, payload, n):
        if payload[0] != 0:
            raise FrameError("payload: the first byte is odd.")
        return np.ones(n, np.float32)

    codec, decoded = parse_codec(changed(encode=encode, decode=decode)), np.empty((3, COLUMNS), np.float32)
    checked = codec.check_frames(framed(codec, rows_of(3, COLUMNS).numpy())[0], COLUMNS, **NAMES)
    assert checked.faults == [(1, "payload: the first byte is odd.")]
    checked.decode(decoded)
    assert decoded.mean(axis=1).tolist() == [1, 0, 1]


def test_damage_of_own_frames_is_survived_where_somebody_guards():
    rows = rows_of(10, COLUMNS)
    federation = federation_of("complete", codec=Half(), mixer="median", exchange=Damaged([5], rounds=[0]))
    traffic = gossip_of(federation, torch.zeros(10, COLUMNS)).round(0, rows)
    assert np.flatnonzero(traffic.tolerated).tolist() == [5]
    with pytest.raises(FrameError, match="round 1: the message of client 5 was refused: payload checksum"):
        gossip_of(
            federation_of("ring", codec=Half(), exchange=Damaged([5], rounds=[0])), torch.zeros(10, COLUMNS)
        ).round(0, rows)


@pytest.mark.parametrize("attack", ["nan", "inf", "crafted", "sign-flip:scale=1e30", "replay"])
def test_attacks_reach_an_own_codec_and_are_borne(attack):
    rows = rows_of(16, COLUMNS)
    federation = federation_of(
        "random-regular:6", clients=16, codec=changed(limit=lambda self, n: 65000.0), mixer="median", attack=attack,
        attackers=[3, 11],
    )  # fmt: skip
    gossip = gossip_of(federation, torch.zeros(16, COLUMNS))
    for t in range(2):
        traffic = gossip.round(t, rows)
    assert torch.isfinite(rows).all()
    if attack in ("nan", "inf", "replay"):  # all bits set is not a number in float16
        assert np.flatnonzero(traffic.tolerated).tolist() == [3, 11]


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ({"payload_bytes": lambda self, n: 2.0 * n}, CodecError, r"codec='Mine': payload_bytes\(50\) gives 100.0"),
        ({"payload_bytes": lambda self, n: -1}, CodecError, "gives -1; it must give a number of bytes"),
        (
            {"payload_bytes": lambda self, n: 2 * n - 1},
            CodecError,
            r"encode gives 100 bytes for 50 numbers, .*\(50\) is 99",
        ),
        ({"payload_bytes": lambda self, n: 2 * n + 1}, CodecError, "is 101. Say variable_length = True"),
        (
            {"encode": lambda self, x, **draws: x.astype(np.float16)},
            CodecError,
            r"encode gives float16 \[50\]; it must give bytes. Give payload.tobytes\(\)\.",
        ),
        ({"encode": lambda self, x, **draws: None}, CodecError, "encode gives a NoneType; it must give bytes"),
        (
            {"decode": lambda self, payload, n: np.zeros(n)},
            CodecError,
            r"decode gives float64 \[50\]; it must .* \[50\]",
        ),
        ({"decode": lambda self, payload, n: np.zeros(3, "f4")}, CodecError, r"decode gives float32 \[3\]"),
        ({"decode": lambda self, payload, n: [0.0] * n}, CodecError, "decode gives a list"),
        ({"limit": lambda self, n: float("nan")}, CodecError, r"limit\(50\) gives nan; it must give a number above 0"),
    ],
)
def test_what_an_own_codec_gives_is_checked(methods, error, message):
    codec = parse_codec(changed(**methods))
    with pytest.raises(error, match=message):
        codec.check_frames(framed(codec, rows_of(3, COLUMNS).numpy())[0], COLUMNS, **NAMES)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"encode": lambda self, x, *, round, client: b""}, r"^codec='Mine': encode is called as .* argument 'seed'"),
        (
            {"decode": lambda self, payload: b""},
            r"^codec='Mine': decode is called as decode\(payload, n\), but too many",
        ),
    ],
)
def test_a_method_that_takes_not_what_it_is_called_with_is_refused_with_the_settings(methods, message):
    with pytest.raises(ConfigError, match=message):
        declora.SimulationConfig(codec=changed(**methods))


def test_numbers_that_are_not_finite_are_neither_encoded_nor_taken():
    codec, rows = parse_codec(Half()), rows_of(3, COLUMNS).numpy()
    rows[1, 7] = np.nan
    with pytest.raises(CodecError, match=r"x\[1, 7\]=nan cannot be encoded by codec 'Half': it must be finite"):
        framed(codec, rows)
    rows[1, 7] = 1e6  # beyond float16, and this codec states no limit
    with np.errstate(over="ignore"):
        frames, _ = framed(codec, rows)
    assert codec.check_frames(frames, COLUMNS, **NAMES).faults == [(1, "payload: number 7 is not finite.")]
    with pytest.raises(CodecError, match="finite and below 65000"):
        framed(parse_codec(changed(limit=lambda self, n: 65000.0)), rows)


def test_an_own_codec_cannot_change_what_it_is_given():
    def encode(self, x, **draws):
        x[0] = 0
        return bytes(2 * len(x))

    with pytest.raises(ValueError, match="read-only"):  # numpy's own, as it is
        framed(parse_codec(changed(encode=encode)), rows_of(3, COLUMNS).numpy())


def test_an_exception_of_an_own_codec_passes_through():
    def fail(self, *arguments, **names):
        raise ZeroDivisionError("mine")

    rows = rows_of(3, COLUMNS).numpy()
    with pytest.raises(ZeroDivisionError, match="mine"):
        framed(parse_codec(changed(encode=fail)), rows)
    codec = parse_codec(changed(decode=fail))
    with pytest.raises(ZeroDivisionError, match="mine"):
        codec.check_frames(framed(codec, rows)[0], COLUMNS, **NAMES)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (Half, "is no codec. Give a name such as 'q4', or an object .not its class. of a class that derives"),
        (object(), "is no codec"),
        (First(memory="none"), "is biased.*Give it a memory: .memory = 'ef'. or"),
        (changed(memory="chocolate"), "codec='Mine': memory='chocolate' is not known. Did you mean 'choco'"),
        (changed(memory=PublicCopies), "memory=.*is not known"),
        (changed(memory=["choco"]), "memory=.*is not known"),
    ],
)  # fmt: skip
def test_what_is_no_codec_is_refused_before_anything_is_loaded(codec, message):
    with pytest.raises((ConfigError, CodecError), match=message):
        declora.SimulationConfig(codec=codec)


def test_a_codec_that_does_worse_than_zeros_has_no_step_size():
    worse = changed(First, decode=lambda self, payload, n: -First.decode(self, payload, n))
    with pytest.raises(CodecError, match=r"relative squared error of 2.5.*no less than zeros"):
        _ = parse_codec(worse).default_gamma


def test_the_kit_measures_own_codecs_of_any_length():
    assert testing.check_codec(Half()).error == pytest.approx(testing.check_codec("fp16").error)
    assert testing.check_codec(First(0.5)).passed


def test_an_object_is_called_by_its_class_and_the_arguments_that_it_keeps():
    assert spelled(First(0.25)) == "First(share=0.25, memory='choco')"
    assert spelled(Half()) == "Half"
    assert spelled(framed) == "framed"
    assert spelled(First(framed, object())) == "First(share=framed, memory=object)"  # no addresses, which differ
    assert spelled(partial(framed, 3)) == "partial"
    assert spelled(operator.itemgetter(0)) == "itemgetter"
    assert len(spelled(First("x" * 10_000))) <= 200
