//! How a flat vector becomes bytes and back; the size is known without running it.

use std::ops::Range;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;

use crate::error::{Error, Fault, Result};
use crate::kernels::portable::{first_at_or_above, max_magnitude_bits};
use crate::philox::Stream;
use crate::quantize::{Norm, Quantizer, SCALE_LIMIT};

/// Longest message in numbers: 2^35, where the quantizer's 32-bit block counter ends.
pub const MAX_ELEMENTS: u64 = 1 << 35;
const TILE: usize = 8192;
const INFINITY: u32 = 0x7F80_0000;

/// A codec whose settings were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// f32, as it is.
    None,
    /// IEEE half precision, rounded to nearest even.
    F16,
    /// bfloat16, rounded to nearest even.
    BF16,
    /// Stochastic uniform quantization.
    Quantized(Quantizer),
}

impl Codec {
    /// All names, as [`Codec::new`] takes them.
    pub const NAMES: [&'static str; 10] = ["none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8"];

    /// Returns the codec of that name; `block` and `norm` matter to the quantizers only.
    ///
    /// # Errors
    /// [`Error::UnknownCodec`], or [`Error::CodecSetting`] as [`Quantizer::new`].
    pub fn new(name: &str, block: usize, norm: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "fp16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            _ => match name.as_bytes() {
                [b'q', digit @ b'2'..=b'8'] => {
                    Quantizer::new(u32::from(digit - b'0'), block, norm.parse()?).map(Self::Quantized)
                }
                _ => Err(Error::UnknownCodec { name: name.to_owned() }),
            },
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => Self::NAMES[0],
            Self::F16 => Self::NAMES[1],
            Self::BF16 => Self::NAMES[2],
            Self::Quantized(quantizer) => Self::NAMES[quantizer.bits() as usize + 1],
        }
    }

    /// Numbers that share a scale, 0 for a codec without scales.
    #[must_use]
    pub fn block(&self) -> u32 {
        match self {
            Self::Quantized(quantizer) => quantizer.block() as u32, // at most 2^20
            _ => 0,
        }
    }

    /// What the scale of a block is, for a codec with scales.
    #[must_use]
    pub fn norm(&self) -> Option<Norm> {
        match self {
            Self::Quantized(quantizer) => Some(quantizer.norm()),
            _ => None,
        }
    }

    /// Id on the wire: the bytes family, bits, norm (0 none, 1 max, 2 l2) and 0, lowest first.
    #[must_use]
    pub fn id(&self) -> u32 {
        u32::from_le_bytes(match self {
            Self::None => [1, 32, 0, 0],
            Self::F16 => [2, 16, 0, 0],
            Self::BF16 => [3, 16, 0, 0],
            Self::Quantized(quantizer) => {
                let norm = match quantizer.norm() {
                    Norm::Max => 1,
                    Norm::L2 => 2,
                };
                [4, quantizer.bits() as u8, norm, 0]
            }
        })
    }

    /// Whether the expectation of what is decoded is what was encoded (to 2^-17 of a step).
    #[must_use]
    pub fn unbiased(&self) -> bool {
        matches!(self, Self::None | Self::Quantized(_))
    }

    /// Whether gossip may use it without error feedback: unbiased, or with a relative error of 2^-8 or less.
    #[must_use]
    pub fn memory_free(&self) -> bool {
        true
    }

    /// Magnitudes below this one can be encoded: the first that would round or scale to infinity.
    fn limit(&self) -> f32 {
        match self {
            Self::None => f32::INFINITY,
            Self::F16 => 65520.0,
            Self::BF16 => f32::from_bits(0x7F7F_8000),
            Self::Quantized(_) => SCALE_LIMIT,
        }
    }

    /// Bytes of the payload of `n` numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] where `n` is more than [`MAX_ELEMENTS`].
    pub fn payload_len(&self, n: usize) -> Result<usize> {
        check_elements(n)?;
        let width = match self {
            Self::None => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Quantized(quantizer) => return quantizer.payload_len(n),
        };
        n.checked_mul(width).ok_or(Error::Length { field: "x", have: n, need: usize::MAX / width })
    }

    /// Writes the payload of `x` to `out`, which has exactly [`Codec::payload_len`] bytes.
    ///
    /// # Errors
    /// [`Error::Length`], or [`Error::Value`] with the first number that cannot be represented; `out` is
    /// then all zeros.
    pub fn encode_into(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<()> {
        let need = self.payload_len(x.len())?;
        if out.len() != need {
            return Err(Error::Length { field: "out", have: out.len(), need });
        }
        let bad = match self {
            Self::None => encode_tiles(x, out, self.limit(), |x, out: &mut [[u8; 4]]| {
                x.iter().zip(out).for_each(|(x, out)| *out = x.to_le_bytes());
            }),
            Self::F16 => encode_tiles(x, out, self.limit(), |x, out: &mut [[u8; 2]]| {
                let mut words = [f16::ZERO; 256];
                for (x, out) in x.chunks(words.len()).zip(out.chunks_mut(words.len())) {
                    let words = &mut words[..x.len()];
                    words.convert_from_f32_slice(x);
                    words.iter().zip(out).for_each(|(word, out)| *out = word.to_le_bytes());
                }
            }),
            Self::BF16 => encode_tiles(x, out, self.limit(), |x, out: &mut [[u8; 2]]| {
                x.iter().zip(out).for_each(|(x, out)| *out = bf16_bits(*x).to_le_bytes());
            }),
            Self::Quantized(quantizer) => quantizer.encode(x, out, stream),
        };
        bad.map_err(|index| {
            out.fill(0);
            Error::Value { row: None, index, value: x[index], limit: self.limit(), codec: self.name() }
        })
    }

    /// Checks a payload of `n` numbers: its length, its scales, and that all it decodes to is finite.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn check_payload(&self, payload: &[u8], n: usize) -> Result<()> {
        let need = self.payload_len(n)?;
        if payload.len() != need {
            return Err(Fault::Size { have: payload.len(), need }.into());
        }
        let bad = match self {
            Self::None => first_bad(payload, |bytes| u32::from_le_bytes(*bytes) & 0x7FFF_FFFF >= INFINITY),
            Self::F16 => first_bad(payload, |bytes| u16::from_le_bytes(*bytes) & 0x7FFF >= 0x7C00),
            Self::BF16 => first_bad(payload, |bytes| u16::from_le_bytes(*bytes) & 0x7FFF >= 0x7F80),
            Self::Quantized(quantizer) => return Ok(quantizer.check(payload, n)?),
        };
        match bad {
            Some(index) => Err(Fault::NotFinite { index }.into()),
            None => Ok(()),
        }
    }

    /// Writes the numbers of `payload` to `out`.
    ///
    /// # Errors
    /// As [`Codec::check_payload`]; `out` is then as it was.
    pub fn decode_into(&self, payload: &[u8], out: &mut [f32]) -> Result<()> {
        self.check_payload(payload, out.len())?;
        let n = out.len();
        out.par_chunks_mut(TILE)
            .enumerate()
            .for_each(|(t, out)| self.decode_range(payload, n, t * TILE, out));
        Ok(())
    }

    /// The bytes of some numbers of a payload of `n`, without their scales; only for a hint, not exact.
    pub(crate) fn numbers<'a>(&self, payload: &'a [u8], n: usize, range: Range<usize>) -> &'a [u8] {
        let (skip, bits) = match self {
            Self::None => (0, 32),
            Self::F16 | Self::BF16 => (0, 16),
            Self::Quantized(quantizer) => (quantizer.split(n), quantizer.bits() as usize),
        };
        let at = |element: usize| (skip + element * bits / 8).min(payload.len());
        &payload[at(range.start)..at(range.end)]
    }

    /// Decodes the numbers `first..first + out.len()` of a checked payload of `n`; `first` is a multiple of 32.
    pub(crate) fn decode_range(&self, payload: &[u8], n: usize, first: usize, out: &mut [f32]) {
        match self {
            Self::None => {
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
            Self::Quantized(quantizer) => quantizer.decode(payload, n, first, out),
        }
    }
}

/// Checks that `n` numbers fit one message.
pub(crate) fn check_elements(n: usize) -> Result<()> {
    if n as u64 > MAX_ELEMENTS {
        return Err(Error::Argument { field: "n", value: n.to_string(), allowed: "at most 2^35 numbers" });
    }
    Ok(())
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
            if max_magnitude_bits(x) >= limit.to_bits() {
                return first_at_or_above(x, limit.to_bits()).map(|at| t * TILE + at);
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
                if x.abs() < Codec::BF16.limit() {
                    assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x:e}");
                }
            }
        }
    }
}
