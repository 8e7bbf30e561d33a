"""Numbers as floats of 32 or 16 bits on a GPU: the bytes of `rust/core/src/codec/float.rs`."""

import triton
import triton.language as tl

__all__ = ["encode"]


@triton.jit
def encode(x_ptr, x_stride, out_ptr, out_stride, bad_ptr, columns, tiles, LIMIT: tl.constexpr, TILE: tl.constexpr):
    """Rounds `TILE` numbers of one row half to even to what `out_ptr` holds: float32, float16, or bfloat16 as int16.

    Args:
        x_ptr: float32 `[N, D]`.
        x_stride: Numbers from one row to the next.
        out_ptr: `[N, D]`.
        out_stride: Numbers from one row to the next.
        bad_ptr: int32 `[1]`, 1 where a magnitude is not below the limit.
        columns: D.
        tiles: Of a row.
        LIMIT: As bits of a float32.
        TILE: Numbers of a program.
    """
    pid = tl.program_id(0)
    row = (pid // tiles).to(tl.int64)
    first = (pid % tiles).to(tl.int64) * TILE
    at = tl.arange(0, TILE)
    valid = at < columns - first
    x = tl.load(x_ptr + row * x_stride + first + at, mask=valid, other=0.0)
    bits = x.to(tl.int32, bitcast=True)
    tl.store(bad_ptr, 1, mask=tl.max(bits & 0x7FFFFFFF, axis=0) >= LIMIT)
    if out_ptr.dtype.element_ty == tl.int16:
        bits = bits.to(tl.uint32, bitcast=True)
        out = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.uint16).to(tl.int16, bitcast=True)
    else:
        out = x.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * out_stride + first + at, out, mask=valid)
