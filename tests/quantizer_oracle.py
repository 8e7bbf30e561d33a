"""The quantizer and its generator once more, obvious and slow, straight from the definition.

`python tests/quantizer_oracle.py` rewrites `golden/quantize.json` from this file alone: the core has no part in it.
"""

import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "quantize.json"
MASK = 0xFFFFFFFF


def philox4x32_10(counter, key):
    """Philox4x32-10 (Salmon et al., SC'11) on Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def draw(element, words, seed):
    """The 16-bit number of one element: chunk of 128, row of 16, lane; two rows share a word."""
    chunk, inside = divmod(element, 128)
    row, lane = divmod(inside, 16)
    word = philox4x32_10((chunk * 16 + lane, *words), (seed & MASK, seed >> 32))[row >> 1]
    return word >> (16 * (row & 1)) & 0xFFFF


def scale_of(x, norm):
    """The float32 scale of one block."""
    if norm == "max":
        return np.abs(x).max()
    sums = np.zeros(16)
    for i, value in enumerate(x.astype(np.float64)):
        sums[i % 16] += value * value
    for half in (8, 4, 2, 1):
        sums[:half] += sums[half : 2 * half]
    return np.float32(np.sqrt(sums[0]))


def encode(x, *, bits, block, norm, seed, round, client):
    """The payload of `x` as bytes."""
    levels = np.float32(2 ** (bits - 1) - 1)
    scales, stream = [], 0
    for start in range(0, len(x), block):
        values = x[start : start + block]
        scale = scale_of(values, norm)
        with np.errstate(all="ignore"):
            multiplier = levels * np.float32(65536) / scale
        if not np.isfinite(multiplier):
            scale = multiplier = np.float32(0)
        scales.append(scale)
        limit = int(levels) * 65536
        fixed = np.clip(np.rint((values * multiplier).astype(np.float64)), -limit, limit)
        for i, v in enumerate(fixed.astype(int), start):
            q = (int(v) + draw(i, (0, client, round), seed)) >> 16
            stream |= (q + int(levels)) << (i * bits)
    return np.array(scales, "<f4").tobytes() + stream.to_bytes(-(-len(x) * bits // 8), "little")


def decode(payload, n, *, bits, block):
    """The `n` float32 values of a payload."""
    levels = 2 ** (bits - 1) - 1
    split = -(-n // block) * 4
    scales = np.frombuffer(payload[:split], "<f4")
    stream = int.from_bytes(payload[split:], "little")
    codes = np.array([(stream >> (i * bits) & (2**bits - 1)) - levels for i in range(n)], np.float32)
    return codes * (scales / np.float32(levels))[np.arange(n) // block]


def golden_cases():
    """Inputs with zeros, whole blocks of zeros, tiny and huge values, and one value far from the others."""
    rng = np.random.default_rng(20240607)
    for bits in range(2, 9):
        for n, block, norm in ((1, 32, "max"), (33, 32, "l2"), (130, 96, "max"), (300, 256, "max"), (300, 32, "l2")):
            if n == 300 and bits not in (2, 4, 7):
                continue
            x = rng.standard_normal(n).astype(np.float32) * np.float32(10.0 ** rng.integers(-6, 7))
            x[rng.random(n) < 0.1] = 0.0
            x[64:96] = 0.0
            x[96:110] *= np.float32(1e-42)
            x[-1] *= np.float32(50)
            draws = {
                "seed": int(rng.integers(2**64, dtype=np.uint64)),
                "round": int(rng.integers(2**32)),
                "client": int(rng.integers(2**32)),
            }
            yield {"bits": bits, "block": block, "norm": norm, **draws, "x": x}


if __name__ == "__main__":
    cases = []
    for case in golden_cases():
        x = case.pop("x")
        payload = encode(x, **case)
        y = decode(payload, len(x), bits=case["bits"], block=case["block"])
        case |= {"x": x.astype("<f4").tobytes().hex(), "payload": payload.hex(), "y": y.astype("<f4").tobytes().hex()}
        cases.append(case | {"seed": str(case["seed"])})  # JSON numbers end at 2^53
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
