"""The stochastic uniform quantizer on a GPU: the scales and codes of `rust/core/src/quantizer.rs`.

A payload is 32-bit words: the scales of all blocks, then the codes as one stream of bits, of which 32 fill a whole
number of words. The last words of its row, behind it, are the steps of all blocks, s / L, so that nobody who decodes
divides. A *chunk* is 128 numbers, eight rows of 16 lanes, and draws from 16 counters of Philox: number
`row * 16 + lane` gets half `row % 2` of word `row // 2` of counter `chunk * 16 + lane`.
"""

import triton
import triton.language as tl

__all__ = ["encode", "scales"]

_INFINITY = tl.constexpr(0x7F800000)
_SCALE_LIMIT = tl.constexpr(0x7F000000)
"""Bits of 2^127: magnitudes and scales are below."""
_NO_STEP = tl.constexpr(2.0**-112)
"""Of this step and all below, 65536 to a step of 1 are infinitely many in float32."""


@triton.jit
def multiplier(scale, LEVELS: tl.constexpr):
    """65536 L / s, or 0 where that is not finite."""
    found = tl.div_rn(tl.full(scale.shape, LEVELS * 65536.0, tl.float32), scale)
    return tl.where((found.to(tl.int32, bitcast=True) & 0x7FFFFFFF) < _INFINITY, found, 0.0)


@triton.jit
def keep(out_ptr, width, block, blocks, scale, LEVELS: tl.constexpr):
    """Writes scales and their steps, 0 where a scale is too small to divide by; returns what x is multiplied with."""
    scaling = multiplier(scale, LEVELS)
    scale = tl.where(scaling == 0.0, 0.0, scale)
    step = tl.div_rn(scale, tl.full(scale.shape, LEVELS, tl.float32))
    step = tl.where(step > _NO_STEP, step, 0.0)
    tl.store(out_ptr + block, scale.to(tl.int32, bitcast=True), mask=block < blocks)
    tl.store(out_ptr + width - blocks + block, step.to(tl.int32, bitcast=True), mask=block < blocks)
    return scaling


@triton.jit
def magnitude_bits(x):
    """Magnitudes as bits, whose order is that of the numbers; infinities and NaN come last."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def scales(
    x_ptr,
    x_stride,
    out_ptr,
    out_stride,
    bad_ptr,
    columns,
    tiles,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Writes the scales of blocks of any length and norm; one program has `BLOCKS` blocks of one row."""
    pid = tl.program_id(0)
    row = (pid // tiles).to(tl.int64)
    block = (pid % tiles).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    first = block[:, None] * BLOCK + tl.arange(0, 16)[None, :]
    largest = tl.zeros((BLOCKS, 16), tl.int32)
    squares = tl.zeros((BLOCKS, 16), tl.float64)
    for start in range(0, BLOCK, 32):
        for half in tl.static_range(2):
            at = first + (start + 16 * half)
            x = tl.load(x_ptr + row * x_stride + at, mask=at < columns, other=0.0)
            largest = tl.maximum(largest, magnitude_bits(x))
            if EUCLIDEAN:
                squares += x.to(tl.float64) * x.to(tl.float64)
    most = tl.max(largest, axis=1)
    tl.store(bad_ptr, 1, mask=tl.max(most, axis=0) >= _SCALE_LIMIT)
    scale = most.to(tl.float32, bitcast=True)
    if EUCLIDEAN:
        # Sum l takes sum l + 8, then l + 4, l + 2, l + 1: this order is part of the promise.
        squares = tl.sum(tl.reshape(squares, (BLOCKS, 2, 8)), axis=1)
        squares = tl.sum(tl.reshape(squares, (BLOCKS, 2, 4)), axis=1)
        squares = tl.sum(tl.reshape(squares, (BLOCKS, 2, 2)), axis=1)
        norm = tl.sqrt(tl.sum(squares, axis=1)).to(tl.float32)
        scale = tl.minimum(norm.to(tl.int32, bitcast=True), _SCALE_LIMIT - 1).to(tl.float32, bitcast=True)
    keep(out_ptr + row * out_stride, out_stride, block, (columns + BLOCK - 1) // BLOCK, scale, LEVELS)


@triton.jit
def packed(x, random, scaling, BITS: tl.constexpr, LEVELS: tl.constexpr, CHUNKS: tl.constexpr):
    """Returns one row of each chunk, `x [CHUNKS, 16]`, as codes side by side, `[CHUNKS, words]`.

    V = clamp(round_half_even(x * scaling)), code = (V + random) >> 16 + L. Where 32 bits hold whole codes a word is 32
    bits wide, else 64, of which 8 codes fill the low `8 * BITS`.
    """
    scaled = x * scaling
    if LEVELS < 64:
        # No magnitude is above the scale and two roundings add less than half of one, so V needs no clamp; and it is
        # below 2^22, so that adding 3 * 2^22 rounds it half to even and leaves it in the low bits, with its sign.
        fixed = (scaled + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000
    else:
        sign = scaled.to(tl.int32, bitcast=True) >> 31
        magnitude = tl.minimum(tl.abs(scaled), LEVELS * 65536.0) + 8388608.0
        fixed = ((magnitude.to(tl.int32, bitcast=True) - 0x4B000000) ^ sign) - sign
    code = ((fixed + (random.to(tl.int32, bitcast=True) + LEVELS * 65536)) >> 16).to(tl.uint32, bitcast=True)
    if 32 % BITS == 0:
        codes: tl.constexpr = 32 // BITS
        side_by_side = tl.reshape(code, (CHUNKS, 16 // codes, codes)) << (tl.arange(0, codes) * BITS)[None, None, :]
    else:
        side_by_side = tl.reshape(code, (CHUNKS, 2, 8)).to(tl.uint64) << (tl.arange(0, 8) * BITS)[None, None, :]
    return tl.sum(side_by_side, axis=2)


@triton.jit
def two_rows(x_ptr, at, left):
    """Loads two rows of each chunk, 16 numbers apart; zeros from the number `left` on."""
    return (
        tl.load(x_ptr + at, mask=at < left, other=0.0),
        tl.load(x_ptr + at + 16, mask=at + 16 < left, other=0.0),
    )


@triton.jit
def larger(x, y):
    """The larger magnitude of each two, as bits."""
    return tl.maximum(magnitude_bits(x), magnitude_bits(y))


@triton.jit
def stored(out_ptr, at, columns, LEVELS: tl.constexpr, BLOCK: tl.constexpr):
    """Returns what the numbers at `at [CHUNKS]` are multiplied with, `[CHUNKS, 1]`, by the scales of their blocks."""
    scale = tl.load(out_ptr + at // BLOCK, mask=at < columns, other=0)
    return multiplier(scale.to(tl.float32, bitcast=True), LEVELS)[:, None]


@triton.jit
def two_packed(x, y, word, scaling, BITS: tl.constexpr, LEVELS: tl.constexpr, CHUNKS: tl.constexpr):
    """Returns two rows of each chunk as `packed` does, side by side on a new last axis."""
    return tl.join(
        packed(x, word & 0xFFFF, scaling, BITS, LEVELS, CHUNKS),
        packed(y, word >> 16, scaling, BITS, LEVELS, CHUNKS),
    )


@triton.jit
def trimmed(words, left, CODES: tl.constexpr, BITS: tl.constexpr):
    """Returns words of `CODES` codes with zeros for those from `left` on."""
    kept = tl.minimum(tl.maximum(left, 0), CODES - 1).to(words.dtype)
    return tl.where(left < CODES, words & ((tl.full(words.shape, 1, words.dtype) << (kept * BITS)) - 1), words)


@triton.jit(do_not_specialize=["low", "high", "round"])
def encode(
    x_ptr,
    x_stride,
    out_ptr,
    out_stride,
    senders_ptr,
    bad_ptr,
    columns,
    tiles,
    low,
    high,
    round,
    BITS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
    SCALED: tl.constexpr,
):
    """Writes the codes of `CHUNKS` chunks of one row; their scales, too, unless these are there (`SCALED`).

    Scales are found here where they are largest magnitudes and a block is 1, 2, 4, ... chunks of this program: then x
    is read once.
    """
    pid = tl.program_id(0)
    row = (pid // tiles).to(tl.int64)
    first = (pid % tiles).to(tl.int64) * CHUNKS
    x_ptr += row * x_stride + first * 128
    out_ptr += row * out_stride
    left = tl.minimum(columns - first * 128, CHUNKS * 128).to(tl.int32)
    all_blocks = (columns + BLOCK - 1) // BLOCK
    chunk = tl.arange(0, CHUNKS)
    at = chunk[:, None] * 128 + tl.arange(0, 16)[None, :]
    x0, x1 = two_rows(x_ptr, at, left)
    x2, x3 = two_rows(x_ptr, at + 32, left)
    x4, x5 = two_rows(x_ptr, at + 64, left)
    x6, x7 = two_rows(x_ptr, at + 96, left)
    if SCALED:
        start = first * 128 + chunk * 128
        s0 = stored(out_ptr, start, columns, LEVELS, BLOCK)
        s1 = stored(out_ptr, start + 32, columns, LEVELS, BLOCK)
        s2 = stored(out_ptr, start + 64, columns, LEVELS, BLOCK)
        s3 = stored(out_ptr, start + 96, columns, LEVELS, BLOCK)
    else:
        most = tl.maximum(tl.maximum(larger(x0, x1), larger(x2, x3)), tl.maximum(larger(x4, x5), larger(x6, x7)))
        per_block: tl.constexpr = BLOCK // 128
        blocks: tl.constexpr = CHUNKS // per_block
        most = tl.max(tl.reshape(tl.max(most, axis=1), (blocks, per_block)), axis=1)
        tl.store(bad_ptr, 1, mask=tl.max(most, axis=0) >= _SCALE_LIMIT)
        block = first // per_block + tl.arange(0, blocks)
        scaling = keep(out_ptr, out_stride, block, all_blocks, most.to(tl.float32, bitcast=True), LEVELS)
        s0 = tl.reshape(tl.broadcast_to(scaling[:, None], (blocks, per_block)), (CHUNKS,))[:, None]
        s1, s2, s3 = s0, s0, s0

    counter = (first * 16).to(tl.int32) + (chunk[:, None] * 16 + tl.arange(0, 16)[None, :])
    key = (high.to(tl.uint32, bitcast=True).to(tl.uint64) << 32) | low.to(tl.uint32, bitcast=True).to(tl.uint64)
    w0, w1, w2, w3 = tl.philox(key, counter, 0, tl.load(senders_ptr + row), round)

    p0 = two_packed(x0, x1, w0, s0, BITS, LEVELS, CHUNKS)
    p1 = two_packed(x2, x3, w1, s1, BITS, LEVELS, CHUNKS)
    p2 = two_packed(x4, x5, w2, s2, BITS, LEVELS, CHUNKS)
    p3 = two_packed(x6, x7, w3, s3, BITS, LEVELS, CHUNKS)
    # Each join adds an axis at the end, so the axes stand in the order of the codes once they are turned round.
    all_rows = tl.permute(tl.join(tl.join(p0, p1), tl.join(p2, p3)), (0, 4, 3, 2, 1))
    codes_ptr = out_ptr + all_blocks
    if 32 % BITS == 0:
        codes: tl.constexpr = 32 // BITS
        words: tl.constexpr = 128 // codes
        word = chunk[:, None] * words + tl.arange(0, words)[None, :]
        found = trimmed(tl.reshape(all_rows, (CHUNKS, words)), left - word * codes, codes, BITS)
        tl.store(codes_ptr + first * words + word, found.to(tl.int32, bitcast=True), mask=word * codes < left)
    else:
        eight = chunk[:, None] * 16 + tl.arange(0, 16)[None, :]
        found = trimmed(tl.reshape(all_rows, (CHUNKS, 16)), left - eight * 8, 8, BITS)[:, :, None]
        byte = tl.arange(0, 8)[None, None, :]
        bytes_ptr = codes_ptr.to(tl.pointer_type(tl.uint8)) + first * (16 * BITS) + eight[:, :, None] * BITS + byte
        there = byte * 8 < tl.minimum(left - eight * 8, 8)[:, :, None] * BITS
        tl.store(bytes_ptr, (found >> (byte * 8).to(tl.uint64)).to(tl.uint8), mask=there)
