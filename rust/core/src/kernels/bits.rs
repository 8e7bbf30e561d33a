//! Kernels of the codecs with one bit a number for its sign.
//!
//! The bodies are the specification and, recompiled, every level's code.

use super::{Body, Level, portable};
use crate::philox::{CHUNK, Stream};

/// A tile whose magnitudes are rounded to powers of two, up or down at random.
pub(crate) struct Powers<'a> {
    pub stream: &'a Stream,
    /// Index in the message of the tile's first chunk of [`CHUNK`] elements.
    pub chunk: u32,
    /// Finite, and below 2^127 in magnitude.
    pub x: &'a [f32],
    /// One byte a number: the exponent as a float has it.
    pub exponents: &'a mut [u8],
    /// One bit a number, lowest first.
    pub signs: &'a mut [u8],
}

impl Body for Powers<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let chunks = self.x.chunks(CHUNK).zip(self.exponents.chunks_mut(CHUNK));
        for (c, (x, exponents)) in chunks.enumerate() {
            let numbers = portable::random_u16(self.stream, self.chunk.wrapping_add(c as u32));
            for ((exponent, &x), &number) in exponents.iter_mut().zip(x).zip(&numbers) {
                // The mantissa as a fraction of 2^23, compared with a number in the middle of each 2^7: exact powers
                // stay, and the probability is right to 2^-17.
                let up = u32::from(number) << 7 | 1 << 6;
                *exponent = (((x.to_bits() & 0x7FFF_FFFF) + up) >> 23) as u8;
            }
        }
        pack_signs(self.x, self.signs);
    }
}

/// Rounds one tile to powers of two.
pub(crate) fn round_to_powers(level: Level, tile: Powers<'_>) {
    level.run(tile);
}

/// Powers of two to be written as floats.
pub(crate) struct Values<'a> {
    pub exponents: &'a [u8],
    pub signs: &'a [u8],
    pub out: &'a mut [f32],
}

impl Body for Values<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let eights = self.out.chunks_mut(8).zip(self.exponents.chunks(8)).zip(self.signs);
        for ((out, exponents), &signs) in eights {
            for (i, (value, &exponent)) in out.iter_mut().zip(exponents).enumerate() {
                *value = f32::from_bits(u32::from(exponent) << 23 | u32::from(signs >> i & 1) << 31);
            }
        }
    }
}

/// Writes one piece of a message of powers of two.
pub(crate) fn powers_of_two(level: Level, piece: Values<'_>) {
    level.run(piece);
}

/// A tile of which only the signs and, per block, the mean magnitude are kept.
pub(crate) struct Signs<'a> {
    pub x: &'a [f32],
    pub block: usize,
    /// One f32 (little endian) a block.
    pub scales: &'a mut [u8],
    /// One bit a number, lowest first.
    pub signs: &'a mut [u8],
}

impl Body for Signs<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (x, scale) in self.x.chunks(self.block).zip(self.scales.chunks_exact_mut(4)) {
            let mean = portable::lane_sum(x, |x| f64::from(x.abs())) / x.len() as f64;
            scale.copy_from_slice(&(mean as f32).to_le_bytes());
        }
        pack_signs(self.x, self.signs);
    }
}

/// Takes signs and mean magnitudes of one tile.
pub(crate) fn take_signs(level: Level, tile: Signs<'_>) {
    level.run(tile);
}

/// Signs to be written as floats of their block's magnitude.
pub(crate) struct Signed<'a> {
    /// Scales of the whole message.
    pub scales: &'a [u8],
    pub block: usize,
    /// Index in the message of the first number; a multiple of 8.
    pub first: usize,
    /// Signs from that number on.
    pub signs: &'a [u8],
    pub out: &'a mut [f32],
}

impl Body for Signed<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (e, (out, &signs)) in self.out.chunks_mut(8).zip(self.signs).enumerate() {
            let at = (self.first + 8 * e) / self.block;
            let scale = self.scales.get(at * 4..).map_or(0.0, portable::read_f32).to_bits();
            for (i, value) in out.iter_mut().enumerate() {
                *value = f32::from_bits(scale | u32::from(signs >> i & 1) << 31);
            }
        }
    }
}

/// Writes one piece of a message of signs.
pub(crate) fn signed(level: Level, piece: Signed<'_>) {
    level.run(piece);
}

#[inline(always)]
fn pack_signs(x: &[f32], signs: &mut [u8]) {
    for (x, byte) in x.chunks(8).zip(signs) {
        *byte = x.iter().enumerate().fold(0, |byte, (i, x)| byte | ((x.to_bits() >> 31) as u8) << i);
    }
}
