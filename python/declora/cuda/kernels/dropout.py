"""Dropout masks on a GPU: the bits of `rust/core/src/dropout.rs`."""

import triton
import triton.language as tl

__all__ = ["masks"]


@triton.jit(do_not_specialize=["low", "high", "step", "threshold"])
def masks(
    out_ptr,
    places_ptr,
    clients_ptr,
    samples_ptr,
    columns,
    tiles,
    low,
    high,
    step,
    threshold,
    keep,
    TILE: tl.constexpr,
):
    """Writes `TILE` numbers of one row: 0 where the draw is below the threshold, else `keep`.

    Number n of a mask draws as number n of a message would: see the quantizer.

    Args:
        out_ptr: float32 `[N, columns]`, contiguous.
        places_ptr: int32 `[N]`: which `columns` numbers of its mask a row is.
        clients_ptr: int32 `[N]`: whose mask.
        samples_ptr: int32 `[N]`: of which of its samples.
        columns: Numbers of a row.
        tiles: Of a row.
        low: Of the key.
        high: Of the key.
        step: The last word of the counter.
        threshold: Below 2^16.
        keep: What is not dropped is multiplied with.
        TILE: Numbers of a program.
    """
    pid = tl.program_id(0)
    row = (pid // tiles).to(tl.int64)
    at = (pid % tiles) * TILE + tl.arange(0, TILE)
    number = tl.load(places_ptr + row) * columns + at
    line = (number % 128) // 16
    counter = number // 128 * 16 + number % 16
    key = (high.to(tl.uint32, bitcast=True).to(tl.uint64) << 32) | low.to(tl.uint32, bitcast=True).to(tl.uint64)
    w0, w1, w2, w3 = tl.philox(key, counter, 1 | (tl.load(samples_ptr + row) << 8), tl.load(clients_ptr + row), step)
    word = tl.where(line < 4, tl.where(line < 2, w0, w1), tl.where(line < 6, w2, w3))
    draw = tl.where(line % 2 == 0, word & 0xFFFF, word >> 16).to(tl.int32)
    tl.store(out_ptr + row * columns + at, tl.where(draw < threshold, 0.0, keep), mask=at < columns)
