"""Decoding, and mixing with decoding in the same pass, on a GPU: `rust/core/src/mixing.rs`.

A program has `SPANS * SPAN` numbers of one row, of which each `SPAN` share a scale.
"""

import triton
import triton.language as tl

__all__ = ["decode", "mean", "mix", "move"]


@triton.jit
def places(SPANS: tl.constexpr, SPAN: tl.constexpr):
    """The numbers of a program, counted from its first one, `[SPANS, SPAN]`."""
    return tl.arange(0, SPANS)[:, None] * SPAN + tl.arange(0, SPAN)[None, :]


@triton.jit
def left_of(first, columns, SPANS: tl.constexpr, SPAN: tl.constexpr):
    """Returns how many numbers of a program there are, int32: those beyond the row are not."""
    return tl.minimum(columns - first, SPANS * SPAN).to(tl.int32)


@triton.jit
def values(
    z_ptr,
    width,
    first,
    columns,
    BITS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPANS: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Returns the numbers of a row from `first` on, float32 `[SPANS, SPAN]`.

    Args:
        z_ptr: The row: the words of a quantizer's payload; or floats where `BITS` is 0, bfloat16 as int16.
        width: Words of the row.
        first: A multiple of 32.
        columns: Numbers of the row.
        BITS: Of a code.
        LEVELS: L of the quantizer.
        BLOCK: Numbers that share a scale.
        SPANS: How often so many share one.
        SPAN: How many.
    """
    at = places(SPANS, SPAN)
    valid = at < left_of(first, columns, SPANS, SPAN)
    if z_ptr.dtype.element_ty == tl.int16:
        bits = tl.load(z_ptr + first + at, mask=valid, other=0).to(tl.int32)
        found = (bits << 16).to(tl.float32, bitcast=True)
    elif BITS == 0:
        found = tl.load(z_ptr + first + at, mask=valid, other=0.0).to(tl.float32)
    else:
        start = first + tl.arange(0, SPANS) * SPAN
        blocks = (columns + BLOCK - 1) // BLOCK
        step = tl.load(z_ptr + width - blocks + start // BLOCK, mask=start < columns, other=0)
        codes_ptr = z_ptr + blocks + first // 32 * BITS
        bit = at % 32 * BITS
        word, shift = at // 32 * BITS + bit // 32, bit % 32
        code = tl.load(codes_ptr + word, mask=valid, other=0).to(tl.uint32, bitcast=True) >> shift.to(tl.uint32)
        if 32 % BITS != 0:
            over = shift + BITS > 32
            rest = tl.load(codes_ptr + word + 1, mask=valid & over, other=0).to(tl.uint32, bitcast=True)
            code |= tl.where(over, rest << ((32 - shift) & 31).to(tl.uint32), 0)
        code &= (1 << BITS) - 1
        found = (code.to(tl.int32, bitcast=True) - LEVELS).to(tl.float32) * step.to(tl.float32, bitcast=True)[:, None]
    return found


@triton.jit
def decode(
    z_ptr,
    z_stride,
    out_ptr,
    out_stride,
    columns,
    tiles,
    BITS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPANS: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Writes what payloads hold to `out`, float32 `[N, D]`."""
    pid = tl.program_id(0)
    row = (pid // tiles).to(tl.int64)
    first = (pid % tiles).to(tl.int64) * (SPANS * SPAN)
    found = values(z_ptr + row * z_stride, z_stride, first, columns, BITS, LEVELS, BLOCK, SPANS, SPAN)
    at = places(SPANS, SPAN)
    tl.store(out_ptr + row * out_stride + first + at, found, mask=at < left_of(first, columns, SPANS, SPAN))


@triton.jit
def mix(
    z_ptr,
    z_stride,
    x_ptr,
    x_stride,
    starts_ptr,
    places_ptr,
    weights_ptr,
    own_ptr,
    gamma,
    columns,
    rows,
    BITS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPANS: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Moves `x`, float32 `[local, D]`, by the differences of what the payloads `z [known, ...]` hold.

    Programs that run at the same time have the same columns of neighbouring rows, so that what several rows read comes
    from memory once. The terms of an element are added in the order of the entries, as in the core.
    """
    pid = tl.program_id(0)
    row = (pid % rows).to(tl.int64)
    first = (pid // rows).to(tl.int64) * (SPANS * SPAN)
    own = tl.load(own_ptr + row).to(tl.int64)
    mine = values(z_ptr + own * z_stride, z_stride, first, columns, BITS, LEVELS, BLOCK, SPANS, SPAN)
    total = tl.zeros((SPANS, SPAN), tl.float32)
    for entry in range(tl.load(starts_ptr + row), tl.load(starts_ptr + row + 1)):
        place = tl.load(places_ptr + entry).to(tl.int64)
        weight = tl.load(weights_ptr + entry)
        other = values(z_ptr + place * z_stride, z_stride, first, columns, BITS, LEVELS, BLOCK, SPANS, SPAN)
        total = total + weight * (other - mine)
    at = places(SPANS, SPAN)
    valid = at < left_of(first, columns, SPANS, SPAN)
    x_ptr += row * x_stride + first
    x = tl.load(x_ptr + at, mask=valid, other=0.0)
    tl.store(x_ptr + at, x + gamma * total, mask=valid)


@triton.jit
def mean(
    z_ptr,
    z_stride,
    weights_ptr,
    mean_ptr,
    columns,
    known,
    BITS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPANS: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Writes the weighted sum of what the payloads `z [known, ...]` hold to `mean`, float64 `[D]`, in their order."""
    first = tl.program_id(0).to(tl.int64) * (SPANS * SPAN)
    total = tl.zeros((SPANS, SPAN), tl.float64)
    for place in range(known):
        row = z_ptr + tl.cast(place, tl.int64) * z_stride
        found = values(row, z_stride, first, columns, BITS, LEVELS, BLOCK, SPANS, SPAN)
        total = total + tl.load(weights_ptr + place) * found.to(tl.float64)
    at = places(SPANS, SPAN)
    tl.store(mean_ptr + first + at, total, mask=at < left_of(first, columns, SPANS, SPAN))


@triton.jit
def move(
    z_ptr,
    z_stride,
    steps_ptr,
    mean_ptr,
    x_ptr,
    x_stride,
    columns,
    rows,
    WHOLE: tl.constexpr,
    BITS: tl.constexpr,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPANS: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Moves `x`, float32 `[known, D]`, by `gamma * (mean - s z)`; `steps`, float64 `[2]`, are s and gamma.

    Where both are 1 (`WHOLE`), it is `(x - z) + mean`, as in the core.
    """
    pid = tl.program_id(0)
    row = (pid % rows).to(tl.int64)
    first = (pid // rows).to(tl.int64) * (SPANS * SPAN)
    at = places(SPANS, SPAN)
    valid = at < left_of(first, columns, SPANS, SPAN)
    mine = values(z_ptr + row * z_stride, z_stride, first, columns, BITS, LEVELS, BLOCK, SPANS, SPAN).to(tl.float64)
    towards = tl.load(mean_ptr + first + at, mask=valid, other=0.0)
    x_ptr += row * x_stride + first
    x = tl.load(x_ptr + at, mask=valid, other=0.0).to(tl.float64)
    share, gamma = tl.load(steps_ptr), tl.load(steps_ptr + 1)
    moved = (x - mine) + towards if WHOLE else x + gamma * (towards - share * mine)
    tl.store(x_ptr + at, moved.to(tl.float32), mask=valid)
