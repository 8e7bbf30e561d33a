//! The inner loops, once per instruction set.
//!
//! [`portable`] is the specification: plain safe loops. Every other level must give the same bits; this
//! file is the only place that chooses. A kernel works on one tile, whose sizes the caller has checked.

pub(crate) mod portable;

use crate::philox::Stream;
use crate::quantize::Quantizer;

/// Elements whose random numbers come from one group of 16 Philox counters (see [`portable::random_u16`]).
pub(crate) const CHUNK: usize = 128;

/// An instruction set that the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// Plain Rust, whatever the compiler makes of it.
    Portable,
}

impl Level {
    /// The fastest level of this machine.
    #[must_use]
    pub fn detect() -> Self {
        Self::Portable
    }
}

/// Quantizes one tile: writes its scales (f32 LE, one per block) and codes (bit stream).
///
/// `chunk` is the index in the message of the tile's first chunk of [`CHUNK`] elements. `x` starts on a
/// block and a chunk, `scales` and `codes` have exactly the bytes of `x`.
///
/// # Errors
/// The index within `x` of the first number that cannot be quantized; what was written is then undefined.
#[inline]
pub(crate) fn encode_tile(
    level: Level,
    quantizer: &Quantizer,
    (stream, chunk): (&Stream, u32),
    x: &[f32],
    (scales, codes): (&mut [u8], &mut [u8]),
) -> Result<(), usize> {
    match level {
        Level::Portable => portable::encode_tile(quantizer, (stream, chunk), x, (scales, codes)),
    }
}

/// Dequantizes the elements `first..first + out.len()` of a message; `first` is a multiple of 32.
///
/// `scales` and `codes` are those of the whole message, and were checked.
#[inline]
pub(crate) fn decode_tile(
    level: Level,
    quantizer: &Quantizer,
    (scales, codes): (&[u8], &[u8]),
    first: usize,
    out: &mut [f32],
) {
    match level {
        Level::Portable => portable::decode_tile(quantizer, (scales, codes), first, out),
    }
}

/// Moves one piece of a row: `x += gamma * sum_j w_j (z_j - z)`, terms in order, each operation rounded.
///
/// All slices have the length of `x`.
#[inline]
pub(crate) fn mix_row<T: crate::Real>(level: Level, x: &mut [T], z: &[T], terms: &[(T, &[T])], gamma: T) {
    match level {
        Level::Portable => portable::mix_row(x, z, terms, gamma),
    }
}

/// Fills one chunk of a dropout mask: 0 where the element's 16-bit number is below `threshold`, else `keep`.
#[inline]
pub(crate) fn mask_chunk(
    level: Level,
    (stream, chunk): (&Stream, u32),
    threshold: u16,
    keep: f32,
    out: &mut [f32],
) {
    match level {
        Level::Portable => portable::mask_chunk((stream, chunk), threshold, keep, out),
    }
}
