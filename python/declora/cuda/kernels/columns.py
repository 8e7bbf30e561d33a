"""Sums over rows, column by column, in float64: rows are added in order, as in `rust/core/src/stats.rs`."""

import triton
import triton.language as tl

__all__ = ["deviations", "mean", "sums"]

_AT_ONCE = tl.constexpr(8)
"""Rows that are asked for before the first of them is added."""


@triton.jit
def values(x_ptr, x_stride, order_ptr, at, rows, column, columns):
    """Returns the columns of the row `order[at]`, float64 `[WIDTH]`; zeros where there is none."""
    there = at < rows
    row = tl.load(order_ptr + at, mask=there, other=0).to(tl.int64)
    return tl.load(x_ptr + row * x_stride + column, mask=there & (column < columns), other=0.0).to(tl.float64)


@triton.jit
def total(x_ptr, x_stride, order_ptr, counts_ptr, rows, column, columns, WIDTH: tl.constexpr):
    """Returns the sum of the rows `order` times their counts, float64 `[WIDTH]`, each term fused with its sum."""
    found = tl.zeros((WIDTH,), tl.float64)
    for start in range(0, rows, _AT_ONCE):
        for ahead in tl.static_range(_AT_ONCE):
            at = start + ahead
            x = values(x_ptr, x_stride, order_ptr, at, rows, column, columns)
            count = tl.load(counts_ptr + at, mask=at < rows, other=0.0)
            found = tl.fma(x, tl.broadcast_to(count, (WIDTH,)), found)
    return found


@triton.jit(do_not_specialize=["rows"])
def mean(x_ptr, x_stride, order_ptr, counts_ptr, out_ptr, whole_ptr, rows, columns, WIDTH: tl.constexpr):
    """Writes the mean of some rows, weighted by counts whose sum is `whole`, float64 `[1]`, to `out`, float32 `[D]`."""
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    found = total(x_ptr, x_stride, order_ptr, counts_ptr, rows, column, columns, WIDTH)
    tl.store(out_ptr + column, (found / tl.load(whole_ptr)).to(tl.float32), mask=column < columns)


@triton.jit(do_not_specialize=["rows"])
def deviations(x_ptr, x_stride, order_ptr, counts_ptr, out_ptr, rows, columns, WIDTH: tl.constexpr):
    """Writes the squared distances of the rows to their mean, summed over rows, to `out`, float64 `[D]`."""
    column = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    centre = total(x_ptr, x_stride, order_ptr, counts_ptr, rows, column, columns, WIDTH) / rows.to(tl.float64)
    squares = tl.zeros((WIDTH,), tl.float64)
    for start in range(0, rows, _AT_ONCE):
        for ahead in tl.static_range(_AT_ONCE):
            at = start + ahead
            x = values(x_ptr, x_stride, order_ptr, at, rows, column, columns)
            distance = tl.where(at < rows, x - centre, 0.0)
            squares = squares + distance * distance
    tl.store(out_ptr + column, squares, mask=column < columns)


@triton.jit
def sums(x_ptr, out_ptr, columns, tiles, LENGTH: tl.constexpr, WIDTH: tl.constexpr):
    """Writes the sum of each `LENGTH` numbers of `x`, float64 `[D]`, added one after the other, to `out [tiles]`."""
    tile = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    found = tl.zeros((WIDTH,), tl.float64)
    for start in range(0, LENGTH, _AT_ONCE):
        for ahead in tl.static_range(_AT_ONCE):
            at = tile.to(tl.int64) * LENGTH + start + ahead
            found += tl.load(x_ptr + at, mask=at < columns, other=0.0)
    tl.store(out_ptr + tile, found, mask=tile < tiles)
