"""The schemes beside q2 to q8 once more, obvious and slow, straight from their definitions.

`python tests/schemes_oracle.py` rewrites `golden/schemes.json` from this file alone: the core has no part in it.
"""

import json
from pathlib import Path

import numpy as np

from quantizer_oracle import MASK, draw, philox4x32_10

GOLDEN = Path(__file__).parent / "golden" / "schemes.json"
NONCE, SELECTION, ROTATION = 2, 3, 4
CENTROIDS = {
    1: [0.79788456], 2: [0.45278003, 1.5104176], 3: [0.24509418, 0.7560053, 1.3439093, 2.1519457],
    4: [0.12839503, 0.3880483, 0.6567591, 0.9423405, 1.2562312, 1.6180464, 2.0690172, 2.7325896],
}  # fmt: skip


def pack(numbers, bits):
    """Numbers of `bits` bits each as one little-endian stream."""
    stream = sum(int(number) << (i * bits) for i, number in enumerate(numbers))
    return stream.to_bytes(-(-len(numbers) * bits // 8), "little")


def lane_sum(terms):
    """The sum in float64 of 16 interleaved sums."""
    sums = np.zeros(16)
    for i, term in enumerate(terms):
        sums[i % 16] += term
    for half in (8, 4, 2, 1):
        sums[:half] += sums[half : 2 * half]
    return sums[0]


def nonce_of(seed, round, client):
    low, high, _, _ = philox4x32_10((0, NONCE, client, round), (seed & MASK, seed >> 32))
    return high << 32 | low


def natural(x, seed, round, client):
    exponents = []
    for i, bits in enumerate(x.view(np.uint32)):
        up = draw(i, (0, client, round), seed) << 7 | 1 << 6
        exponents.append((int(bits & 0x7FFFFFFF) + up) >> 23)
    z = np.array([np.uint32(e << 23 | int(b) & 1 << 31) for e, b in zip(exponents, x.view(np.uint32), strict=True)])
    return bytes(exponents) + pack(np.signbit(x), 1), z.view(np.float32)


def sign(x, seed, round, client, block=256):
    blocks = [x[start : start + block] for start in range(0, len(x), block)]
    scales = np.array([lane_sum(np.abs(b).astype(float)) / len(b) for b in blocks], np.float32)
    z = np.copysign(scales[np.arange(len(x)) // block], x)
    return scales.astype("<f4").tobytes() + pack(np.signbit(x), 1), z


def qsgd(x, seed, round, client, levels=15, block=512):
    scales, symbols, z = [], [], np.zeros_like(x)
    for start in range(0, len(x), block):
        values = x[start : start + block]
        scale = np.float32(np.sqrt(lane_sum(values.astype(float) ** 2)))
        scales.append(scale)
        fixed = np.rint((values * (np.float32(levels * 65536) / scale)).astype(float))
        for i, v in enumerate(np.clip(fixed, -levels * 65536, levels * 65536).astype(int), start):
            q = (int(v) + draw(i, (0, client, round), seed)) >> 16
            symbols.append(q + levels)
            z[i] = np.float32(q) * (scale / np.float32(levels))
    return np.array(scales, "<f4").tobytes() + pack(symbols, (2 * levels).bit_length()), z


def topk(x, seed, round, client, fraction=0.1):
    n = len(x)
    k = min(n, max(1, int(n * fraction + 0.5)))
    kept = sorted(sorted(range(n), key=lambda i: (-abs(x[i]), i))[:k])
    low = (n // k).bit_length() - 1
    high = sum(1 << ((index >> low) + i) for i, index in enumerate(kept))
    indices = pack([index & (1 << low) - 1 for index in kept], low) if low else b""
    indices += high.to_bytes(-(-(((n - 1) >> low) + k) // 8), "little")
    z = np.zeros_like(x)
    z[kept] = x[kept]
    return indices + x[kept].astype("<f4").tobytes(), z


def randk(x, seed, round, client, fraction=0.1):
    n = len(x)
    k = min(n, max(1, int(n * fraction + 0.5)))
    nonce, z, values = nonce_of(seed, round, client), np.zeros_like(x), []
    for run in range(k):
        start, stop = run * n // k, (run + 1) * n // k
        word = philox4x32_10((run // 4, SELECTION, 0, 0), (nonce & MASK, nonce >> 32))[run % 4]
        index = start + (word * (stop - start) >> 32)
        z[index] = x[index] * np.float32(stop - start)
        values.append(z[index])
    return nonce.to_bytes(8, "little") + np.array(values, "<f4").tobytes(), z


def signs_of(nonce, first, count, rotation):
    flips = []
    for at in range(first, first + count):
        words = philox4x32_10((at // 128, ROTATION, rotation, 0), (nonce & MASK, nonce >> 32))
        flips.append(words[at % 128 // 32] >> (at % 32) & 1)
    return np.where(flips, np.float32(-1), np.float32(1))


def hadamard(x):
    half = 1
    while half < len(x):
        pairs = x.reshape(-1, 2, half)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    return x * (np.float32(1) / np.sqrt(np.float32(len(x))))


def eden(x, seed, round, client, bits=3, block=64, rotations=2):
    nonce = nonce_of(seed, round, client)
    positive = np.array(CENTROIDS[bits], np.float32)
    centroids = np.concatenate([-positive[::-1], positive])
    thresholds = (centroids[:-1] + centroids[1:]) / np.float32(2)
    scales, symbols, z = [], [], []
    for start in range(0, len(x), block):
        values = x[start : start + block]
        size = block if len(values) == block else max(32, 1 << (len(values) - 1).bit_length())
        y = np.zeros(size, np.float32)
        y[: len(values)] = values
        for rotation in range(rotations):
            y = hadamard(y * signs_of(nonce, start, size, rotation))
        squares = lane_sum(y.astype(float) ** 2)
        codes = (y[:, None] * np.float32(np.sqrt(size) / np.sqrt(squares)) > thresholds).sum(1)
        products = (centroids[codes] * y).astype(float)
        dot = sum(lane_sum(products[at : at + 128]) for at in range(0, size, 128))
        scales.append(np.float32(squares / dot))
        symbols += list(codes)
        back = centroids[codes] * scales[-1]
        for rotation in reversed(range(rotations)):
            back = hadamard(back) * signs_of(nonce, start, size, rotation)
        z.append(back[: len(values)])
    head = nonce.to_bytes(8, "little") + np.array(scales, "<f4").tobytes()
    return head + pack(symbols, bits), np.concatenate(z)


def unrans(payload, start, length, period, total):
    """The plain bytes of a payload with the entropy stage, whose `start:start + length` it shortened."""
    if payload[0] == 0:
        return payload[1:]
    rest = payload[1:]
    plain, rest = bytearray(total), rest
    plain[:start], rest = rest[:start], rest[start:]
    after = total - start - length
    plain[start + length :], rest = rest[:after], rest[after:]
    slots = []
    for _ in range(period):
        symbols = [s for s in range(256) if rest[s // 8] >> (s % 8) & 1]
        packed = int.from_bytes(rest[32 : 32 + -(-len(symbols) * 3 // 2)], "little")
        rest = rest[32 + -(-len(symbols) * 3 // 2) :]
        table = [
            (s, f, place) for i, s in enumerate(symbols) for f in [(packed >> 12 * i & 4095) + 1] for place in range(f)
        ]
        assert len(table) == 4096
        slots.append(table)
    states, rest = [int.from_bytes(rest[4 * i : 4 * i + 4], "little") for i in range(4)], rest[16:]
    for i in range(length):
        symbol, frequency, place = slots[i % period][states[i % 4] % 4096]
        plain[start + i] = symbol
        states[i % 4] = frequency * (states[i % 4] >> 12) + place
        if states[i % 4] < 1 << 16:
            states[i % 4], rest = states[i % 4] << 16 | int.from_bytes(rest[:2], "little"), rest[2:]
    assert states == [1 << 16] * 4
    assert not rest
    return bytes(plain)


SCHEMES = {
    "natural": natural, "sign": sign, "sign:block=32": lambda *a: sign(*a, block=32), "qsgd": qsgd,
    "qsgd:levels=1,block=64": lambda *a: qsgd(*a, levels=1, block=64), "topk:fraction=0.1,values=none": topk,
    "topk:fraction=1,values=none": lambda *a: topk(*a, fraction=1.0), "randk:fraction=0.1,values=none": randk,
    "randk:fraction=0.7,values=none": lambda *a: randk(*a, fraction=0.7), "eden:bits=3,block=64": eden,
    "drive:block=256": lambda *a: eden(*a, bits=1, block=256), "eden:bits=2": lambda *a: eden(*a, bits=2, block=4096),
    "eden:bits=4,block=256,rotations=1": lambda *a: eden(*a, bits=4, block=256, rotations=1),
}  # fmt: skip


def golden_cases():
    rng = np.random.default_rng(20251124)
    for spec in SCHEMES:
        for n in (1, 33, 300):
            x = rng.standard_normal(n).astype(np.float32) * np.float32(10.0 ** rng.integers(-6, 7))
            x[rng.random(n) < 0.1] = 0.0
            x[-1] *= np.float32(50)
            draws = {
                "seed": int(rng.integers(2**64, dtype=np.uint64)),
                "round": int(rng.integers(2**32)),
                "client": int(rng.integers(2**32)),
            }
            yield spec, draws, x


if __name__ == "__main__":
    cases = []
    for spec, draws, x in golden_cases():
        payload, z = SCHEMES[spec](x, draws["seed"], draws["round"], draws["client"])
        floats = {name: value.astype("<f4").tobytes().hex() for name, value in (("x", x), ("z", z))}
        cases.append({"codec": spec, **draws, "seed": str(draws["seed"]), "payload": payload.hex(), **floats})
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
