"""Codecs on a GPU: the golden bytes, and those of the core; the same decoded bits; what cannot be encoded is marked."""

import json

import numpy as np
import pytest
import torch

import cards
import quantizer_oracle
import schemes_oracle
from core_calls import normal
from declora import _bridge, cuda

# A block of zeros is divided by its scale: infinity, as specified, of which the interpreter's numpy tells.
pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")

GOLDEN = [
    (f"q{case['bits']}:block={case['block']},norm={case['norm']}", case, case["y"])
    for case in json.loads(quantizer_oracle.GOLDEN.read_text())
] + [
    (case["codec"], case, case["z"])
    for case in json.loads(schemes_oracle.GOLDEN.read_text())
    if case["codec"].startswith("qsgd")
]


@pytest.mark.parametrize(("text", "case", "decoded"), GOLDEN)
def test_golden_bytes_come_from_the_kernels_too(text, case, decoded):
    x = np.frombuffer(bytes.fromhex(case["x"]), "<f4")[None]
    payloads = cards.by_card(
        text, x, seed=int(case["seed"]), round=case["round"], senders=np.array([case["client"]], np.uint32)
    )
    assert payloads.bytes.cpu().numpy().tobytes().hex() == case["payload"]
    out = torch.empty(x.shape, device=cards.DEVICE)
    payloads.decode(out)
    assert out.cpu().numpy().tobytes().hex() == decoded


def hard_rows(columns, seed):
    """Two rows: of numbers as large as their scale, of either sign; of zeros, and numbers of all sizes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, columns))
    x[0] = np.where(rng.random(columns) < 0.5, x[0], np.abs(x[0]).max() * rng.choice([-1, 1], columns))
    x[1] *= 10.0 ** np.linspace(-44, 2, columns)
    x[1, : columns // 5] = 0
    return x.astype(np.float32)


CASES = [
    ("none", 301),
    ("fp16", 1025),
    ("bf16", 301),
    *((f"q{bits}", 257 + bits) for bits in range(2, 9)),
    *((f"q{bits}:block=96", 300) for bits in (3, 4, 7)),
    ("q2:block=32,norm=l2", 129),
    ("q4:block=64", 1),
    ("q4:block=128", 2049),  # more than a program's share
    ("q4:block=1024,norm=l2", 1500),
    ("q5:block=4096", 2100),  # a block that several programs share
    ("q8:norm=l2", 31),
    ("qsgd", 600),
    ("qsgd:levels=1,norm=max", 300),
    ("qsgd:levels=63,norm=max", 300),  # the most that needs no clamp
    ("qsgd:levels=64", 300),
    ("qsgd:levels=127,norm=max", 300),
]


@pytest.mark.parametrize(("text", "columns"), CASES)
def test_bytes_and_decoded_bits_are_those_of_the_core(text, columns):
    x = hard_rows(columns, seed=len(text))
    draws = {"seed": 2**64 - 59, "round": 2**31 + 5, "senders": np.array([2**32 - 1, 7], np.uint32)}
    sent, z, _ = cards.by_core(text, x, **draws)
    payloads = cards.by_card(text, x, **draws)
    assert cards.same_bits(payloads.bytes, sent)
    assert payloads.codec.payload_bytes(columns) == _bridge.Codec(text).payload_bytes(columns)
    assert not payloads.bad.item()
    out = torch.empty(x.shape, device=cards.DEVICE)
    payloads.decode(out)
    assert cards.same_bits(out, z)


def test_rows_of_a_wider_matrix_are_encoded_as_they_are():
    wide = normal(2, 500)
    sent, _, _ = cards.by_core("q4", np.ascontiguousarray(wide[:, 100:400]))
    rows = cards.on_card(wide)[:, 100:400]
    codec = cuda.Codec.of(str(_bridge.Codec("q4")))
    payloads = codec.encode(rows, seed=9, round=3, senders=torch.arange(2, dtype=torch.int32, device=cards.DEVICE))
    assert cards.same_bits(payloads.bytes, sent)


LIMITS = {"none": np.inf, "fp16": 65520, "bf16": np.frombuffer(b"\x00\x80\x7f\x7f", "<f4")[0]}


@pytest.mark.parametrize("text", ["none", "fp16", "bf16", "q3", "q8:norm=l2"])
def test_a_number_at_the_limit_is_marked_and_the_one_below_is_not(text):
    limit = np.float32(LIMITS.get(text, 2.0**127))
    assert limit == _bridge.Codec(text).limit(140)
    x = normal(1, 140)
    x[0, 139] = -np.nextafter(limit, np.float32(0))
    assert cards.by_card(text, x).bad.item() == 0
    for bad in (limit, -limit, np.float32("nan")):
        x[0, 139] = bad
        assert cards.by_card(text, x).bad.item() == 1


@pytest.mark.parametrize("text", ["q4+rans", "natural", "sign", "topk", "randk", "eden", "drive", "powersgd"])
def test_other_codecs_have_no_kernel(text):
    assert cuda.Codec.of(str(_bridge.Codec(text))) is None
