//! The inner loops, once per instruction set.
//!
//! [`portable`] is the specification: plain safe loops. Every other level must give the same bits; this
//! file is the only place that chooses. A kernel works on one tile, whose sizes the caller has checked.
//! AVX2 and AVX-512 have loops of their own for the quantizer, mixing and products, and compile the others for wider
//! vectors.

mod accumulate;
mod average;
mod bits;
mod codes;
mod deviation;
mod eden;
mod hadamard;
mod level;
mod norm;
pub(crate) mod portable;
mod product;
mod robust;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use accumulate::Accumulate;
pub(crate) use average::{Move, Weigh};
pub(crate) use bits::{Powers, Signed, Signs, Values, powers_of_two, round_to_powers, signed, take_signs};
pub(crate) use codes::Codes;
pub(crate) use deviation::Deviation;
pub(crate) use eden::{Rotation, Snap, Unsnap, snap_block, unsnap_block};
pub use level::{Level, with_level};
pub(crate) use norm::squared_norm;
pub(crate) use portable::GROUP;
pub(crate) use product::{Factor, Product};
pub(crate) use robust::{Mean, Push, Sort, Squared};

use crate::philox::Stream;
use crate::quantizer::Quantizer;
use crate::real::Real;

/// Elements of a row that are mixed together.
pub(crate) const STRIP: usize = 64;

/// A loop body that is compiled once per level, inlined into it.
trait Body {
    type Output;
    /// Must be `#[inline(always)]`, as all that it calls: only then are the level's vectors used.
    fn run(self) -> Self::Output;
}

impl Level {
    #[inline(always)]
    fn run<B: Body>(self, body: B) -> B::Output {
        match self {
            Self::Portable => body.run(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.run(body),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => token.run(body),
        }
    }
}

/// One tile to quantize: writes its scales (f32 LE, one per block) and codes (bit stream).
pub(crate) struct Encode<'a> {
    pub quantizer: &'a Quantizer,
    pub stream: &'a Stream,
    /// Index in the message of the tile's first chunk of [`CHUNK`] elements.
    pub chunk: u32,
    /// Starts on a block and on a chunk.
    pub x: &'a [f32],
    /// Exactly the scales of `x`.
    pub scales: &'a mut [u8],
    /// Exactly the codes of `x`.
    pub codes: &'a mut [u8],
}

impl Body for Encode<'_> {
    type Output = Result<(), usize>;
    #[inline(always)]
    fn run(self) -> Self::Output {
        portable::encode_tile(self)
    }
}

/// Quantizes one tile.
///
/// # Errors
/// The index within `x` of the first number that cannot be quantized; what was written is then undefined.
pub(crate) fn encode_tile(level: Level, tile: Encode<'_>) -> Result<(), usize> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) if tile.quantizer.full() => token.encode_tile(tile),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) if tile.quantizer.full() => token.encode_tile(tile),
        _ => level.run(tile),
    }
}

/// The elements `first..first + out.len()` of a message to dequantize; `first` is a multiple of 32.
pub(crate) struct Decode<'a> {
    pub quantizer: &'a Quantizer,
    /// Scales of the whole message, which were checked.
    pub scales: &'a [u8],
    /// Codes of the whole message.
    pub codes: &'a [u8],
    pub first: usize,
    pub out: &'a mut [f32],
}

impl Body for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        portable::decode_tile(self);
    }
}

/// Dequantizes one tile.
pub(crate) fn decode_tile(level: Level, tile: Decode<'_>) {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) if tile.quantizer.full() => token.decode_tile(tile),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) if tile.quantizer.full() => token.decode_tile(tile),
        _ => level.run(tile),
    }
}

/// One piece of a row to move: `x += gamma * sum_j w_j (z_j - z)`, terms in order, each operation rounded.
pub struct Mix<'a, T> {
    pub x: &'a mut [T],
    /// Rows of z: the one in slot i begins at `i * slot`, and is as long as a multiple of [`STRIP`].
    pub z: &'a [T],
    pub slot: usize,
    /// Slot of the row itself.
    pub own: u32,
    /// Weights of the other rows.
    pub weights: &'a [T],
    /// Their slots.
    pub slots: &'a [u32],
    pub gamma: T,
    /// What to ask for from memory meanwhile.
    pub ahead: &'a [T],
}

/// Floats that can be mixed.
pub trait Mixed: Real {
    /// Moves one piece of a row.
    #[doc(hidden)]
    fn mix_row(level: Level, piece: Mix<'_, Self>);
}

macro_rules! mixed {
    ($($type:ident: $kernel:ident)*) => { $(
        impl Mixed for $type {
            fn mix_row(level: Level, piece: Mix<'_, Self>) {
                match level {
                    Level::Portable => portable::mix_row(piece),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2(token) => token.$kernel(piece),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512(token) => token.$kernel(piece),
                }
            }
        }
    )* };
}
mixed!(f32: mix_f32 f64: mix_f64);

/// The numbers among which one may be too large.
struct Largest<'a>(&'a [f32]);

impl Body for Largest<'_> {
    type Output = u32;
    #[inline(always)]
    fn run(self) -> u32 {
        portable::max_magnitude_bits(self.0)
    }
}

/// Index of the first number that is not below `limit` in magnitude, or not a number.
pub(crate) fn first_beyond(x: &[f32], limit: f32) -> Option<usize> {
    // Without a branch per number the search of good numbers is vectorised.
    if Level::current().run(Largest(x)) < limit.to_bits() {
        return None;
    }
    portable::first_at_or_above(x, limit.to_bits())
}

/// One chunk of a dropout mask: 0 where the element's 16-bit number is below `threshold`, else `keep`.
pub(crate) struct Mask<'a> {
    pub stream: &'a Stream,
    pub chunk: u32,
    pub threshold: u16,
    pub keep: f32,
    pub out: &'a mut [f32],
}

impl Body for Mask<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        portable::mask_chunk(self);
    }
}

/// Fills one chunk of a dropout mask.
pub(crate) fn mask_chunk(level: Level, chunk: Mask<'_>) {
    level.run(chunk);
}

/// Asks for `data` to be brought to the second-level cache, where there is such an instruction.
#[inline(always)]
pub(crate) fn prefetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch_all(data);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}
