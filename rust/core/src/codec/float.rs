//! Numbers as floats of 32 or 16 bits, each on its own.

use std::ops::Range;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;

use super::{Coder, Ranges, TILE, decode_tiles};
use crate::error::{Fault, Result};
use crate::kernels::first_beyond;
use crate::philox::Stream;

const INFINITY: u32 = 0x7F80_0000;

/// A format of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    /// f32, as it is.
    F32,
    /// IEEE half precision, rounded to nearest even.
    F16,
    /// bfloat16, rounded to nearest even.
    BF16,
}

impl Float {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "none",
            Self::F16 => "fp16",
            Self::BF16 => "bf16",
        }
    }

    pub(crate) fn family(self) -> u8 {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
            Self::BF16 => 3,
        }
    }

    pub(crate) fn bits(self) -> u8 {
        8 * self.width() as u8
    }

    fn width(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The square of half a unit in the last place, relative to the least number with that unit.
    pub(crate) fn error_bound(self) -> f64 {
        match self {
            Self::F32 => 0.0,
            Self::F16 => 2_f64.powi(-22),
            Self::BF16 => 2_f64.powi(-16),
        }
    }
}

impl Coder for Float {
    fn payload_len(&self, n: usize) -> Result<u64> {
        Ok((n * self.width()) as u64)
    }

    fn limit(&self, _: usize) -> f32 {
        match self {
            Self::F32 => f32::INFINITY,
            Self::F16 => 65520.0,
            Self::BF16 => f32::from_bits(0x7F7F_8000),
        }
    }

    fn encode(&self, x: &[f32], out: &mut [u8], _: &Stream) -> Result<(), usize> {
        match self {
            Self::F32 => encode_tiles(x, out, self.limit(x.len()), |x, out: &mut [[u8; 4]]| {
                x.iter().zip(out).for_each(|(x, out)| *out = x.to_le_bytes());
            }),
            Self::F16 => encode_tiles(x, out, self.limit(x.len()), |x, out: &mut [[u8; 2]]| {
                let mut words = [f16::ZERO; 256];
                for (x, out) in x.chunks(words.len()).zip(out.chunks_mut(words.len())) {
                    let words = &mut words[..x.len()];
                    words.convert_from_f32_slice(x);
                    words.iter().zip(out).for_each(|(word, out)| *out = word.to_le_bytes());
                }
            }),
            Self::BF16 => encode_tiles(x, out, self.limit(x.len()), |x, out: &mut [[u8; 2]]| {
                x.iter().zip(out).for_each(|(x, out)| *out = bf16_bits(*x).to_le_bytes());
            }),
        }
    }

    fn check(&self, payload: &[u8], _: usize) -> Result<(), Fault> {
        let bad = match self {
            Self::F32 => first_bad(payload, |bytes| u32::from_le_bytes(*bytes) & 0x7FFF_FFFF >= INFINITY),
            Self::F16 => first_bad(payload, |bytes| u16::from_le_bytes(*bytes) & 0x7FFF >= 0x7C00),
            Self::BF16 => first_bad(payload, |bytes| u16::from_le_bytes(*bytes) & 0x7FFF >= 0x7F80),
        };
        bad.map_or(Ok(()), |index| Err(Fault::NotFinite { index }))
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        decode_tiles(self, payload, out);
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        Some(self)
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        (0..n * self.width(), self.width())
    }
}

impl Ranges for Float {
    fn decode_range(&self, payload: &[u8], _: usize, first: usize, out: &mut [f32]) {
        match self {
            Self::F32 => {
                let (numbers, _) = payload.as_chunks();
                numbers[first..].iter().zip(out).for_each(|(bytes, out)| *out = f32::from_le_bytes(*bytes));
            }
            Self::F16 => {
                let (numbers, _) = payload.as_chunks();
                let mut words = [0_u16; 256];
                for (bytes, out) in numbers[first..].chunks(words.len()).zip(out.chunks_mut(words.len())) {
                    let words = &mut words[..out.len()];
                    words.iter_mut().zip(bytes).for_each(|(word, bytes)| *word = u16::from_le_bytes(*bytes));
                    words.reinterpret_cast::<f16>().convert_to_f32_slice(out);
                }
            }
            Self::BF16 => {
                let (numbers, _) = payload.as_chunks();
                let widen = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                numbers[first..].iter().zip(out).for_each(|(bytes, out)| *out = widen(bytes));
            }
        }
    }

    fn bytes<'a>(&self, payload: &'a [u8], _: usize, range: Range<usize>) -> [&'a [u8]; 2] {
        [&payload[range.start * self.width()..range.end * self.width()], &[]]
    }
}

/// Encodes tile by tile with `write`; returns the index of the first number at or above `limit`.
fn encode_tiles<const WIDTH: usize>(
    x: &[f32],
    out: &mut [u8],
    limit: f32,
    write: impl Fn(&[f32], &mut [[u8; WIDTH]]) + Sync,
) -> Result<(), usize> {
    let (numbers, _) = out.as_chunks_mut();
    x.par_chunks(TILE)
        .zip(numbers.par_chunks_mut(TILE))
        .enumerate()
        .filter_map(|(t, (x, out))| {
            if let Some(at) = first_beyond(x, limit) {
                return Some(t * TILE + at);
            }
            write(x, out);
            None
        })
        .min()
        .map_or(Ok(()), Err)
}

fn first_bad<const WIDTH: usize>(payload: &[u8], bad: impl Fn(&[u8; WIDTH]) -> bool + Sync) -> Option<usize> {
    let (numbers, _) = payload.as_chunks();
    numbers.par_chunks(TILE).enumerate().find_map_first(|(t, tile)| {
        // Without a branch per number the search of a good payload is vectorised.
        let any = tile.iter().fold(false, |any, bytes| any | bad(bytes));
        any.then(|| tile.iter().position(&bad).map(|at| t * TILE + at)).flatten()
    })
}

/// bfloat16 of a finite number that does not round to infinity, rounded half to even.
#[inline(always)]
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        for high in 0..=0xFFFF_u32 {
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(high << 16 | low);
                if x.abs() < Float::BF16.limit(1) {
                    assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x:e}");
                }
            }
        }
    }
}
