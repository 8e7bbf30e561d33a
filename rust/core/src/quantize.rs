//! The stochastic uniform quantizer: b bits a number, one scale a block, rounding without bias.
//!
//! With L = 2^(b-1) - 1 levels on either side of zero and the scale s of a block (its largest magnitude, or
//! its Euclidean norm as in QSGD, Alistarh et al. 2017, arXiv 1610.02132):
//!
//! ```text
//! V = clamp(round_half_even(x * (L * 65536 / s)), -L * 65536, L * 65536)     16 fractional bits
//! q = (V + r) >> 16                                                r uniform in 0..65536
//! y = q * (s / L)
//! ```
//!
//! E[q] = V / 65536 exactly, so the only bias is that of V: at most 2^-17 of a step (plus the rounding of
//! the multiplication). r comes from [`Stream`], so the bytes are a function of (seed, round, client, x).

use rayon::prelude::*;

use crate::codec::check_elements;
use crate::error::{Error, Fault, Result};
use crate::kernels::{self, CHUNK, Decode, Encode, Level};
use crate::philox::Stream;

/// Magnitudes and scales are below 2^127, so that no decoded number overflows, whatever its code.
pub(crate) const SCALE_LIMIT: f32 = f32::from_bits(0x7F00_0000);
/// A tile is about this many elements: it fits the first-level cache and outweighs a task's start.
const TILE: usize = 8192;
const MAX_BLOCK: usize = 1 << 20;

/// What the scale of a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The largest magnitude: the smallest error.
    Max,
    /// The Euclidean norm, as in QSGD.
    L2,
}

impl Norm {
    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::L2 => "l2",
        }
    }
}

impl std::str::FromStr for Norm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "max" => Ok(Self::Max),
            "l2" => Ok(Self::L2),
            _ => Err(Error::CodecSetting {
                field: "norm",
                value: format!("{name:?}"),
                allowed: "\"max\" or \"l2\"",
            }),
        }
    }
}

/// A stochastic quantizer whose settings were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantizer {
    bits: u32,
    block: usize,
    norm: Norm,
}

impl Quantizer {
    /// Returns the quantizer with `bits` in 2..=8 and one scale per `block` numbers.
    ///
    /// # Errors
    /// [`Error::CodecSetting`] unless `block` is a multiple of 32 from 32 to 2^20.
    pub fn new(bits: u32, block: usize, norm: Norm) -> Result<Self> {
        if !(2..=8).contains(&bits) {
            return Err(Error::CodecSetting { field: "bits", value: bits.to_string(), allowed: "2 to 8" });
        }
        if block == 0 || !block.is_multiple_of(32) || block > MAX_BLOCK {
            return Err(Error::CodecSetting {
                field: "block",
                value: block.to_string(),
                allowed: "a multiple of 32 from 32 to 1048576 (256 is the default)",
            });
        }
        Ok(Self { bits, block, norm })
    }

    /// Bits of one code.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Numbers that share a scale.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// What the scale of a block is.
    #[must_use]
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// L: codes go from -L to L.
    #[inline(always)]
    pub(crate) fn levels(&self) -> u32 {
        (1 << (self.bits - 1)) - 1
    }

    /// L / s * 65536 in f32, or 0 where that is not finite.
    ///
    /// The powers of two are multiplied first: the same number, without a subnormal on the way.
    #[inline(always)]
    pub(crate) fn multiplier(&self, scale: f32) -> f32 {
        let multiplier = (self.levels() << 16) as f32 / scale;
        if multiplier.is_finite() { multiplier } else { 0.0 }
    }

    /// s / L in f32.
    #[inline(always)]
    pub(crate) fn step(&self, scale: f32) -> f32 {
        scale / self.levels() as f32
    }

    /// Bytes of the payload of `n` numbers: 4 per block, then `bits` per number.
    ///
    /// # Errors
    /// [`Error::Argument`] where `n` is more than [`MAX_ELEMENTS`](crate::MAX_ELEMENTS).
    pub fn payload_len(&self, n: usize) -> Result<usize> {
        check_elements(n)?;
        // At most 2^35 numbers of at most 9 bits: no overflow in 64 bits.
        let bytes = n.div_ceil(self.block) as u64 * 4 + (n as u64 * u64::from(self.bits)).div_ceil(8);
        usize::try_from(bytes).map_err(|_| Error::Argument {
            field: "n",
            value: n.to_string(),
            allowed: "small enough for this machine's addresses",
        })
    }

    /// Elements of the least whole number of both blocks and chunks, which is also whole bytes.
    #[inline(always)]
    pub(crate) fn unit(&self) -> usize {
        // Both are a power of two times an odd number, which is 1 for the chunk.
        let shared = 1 << self.block.trailing_zeros().min(CHUNK.trailing_zeros());
        self.block / shared * CHUNK
    }

    /// Bytes of the scales of `n` numbers, which come first.
    pub(crate) fn split(&self, n: usize) -> usize {
        n.div_ceil(self.block) * 4
    }

    /// Writes the payload of `x`; the two lengths were checked.
    ///
    /// # Errors
    /// The index of the first number that is not finite or has a magnitude of 2^127 or more; the payload is
    /// then undefined.
    pub(crate) fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        let level = Level::current();
        let tile = TILE.div_ceil(self.unit()) * self.unit();
        let (scales, codes) = out.split_at_mut(self.split(x.len()));
        if x.len() <= tile {
            // Not worth waking another thread.
            return kernels::encode_tile(
                level,
                Encode { quantizer: self, stream, chunk: 0, x, scales, codes },
            );
        }
        x.par_chunks(tile)
            .zip(scales.par_chunks_mut(tile / self.block * 4))
            .zip(codes.par_chunks_mut(tile / 8 * self.bits as usize))
            .enumerate()
            .filter_map(|(t, ((x, scales), codes))| {
                let first = t * tile;
                let chunk = (first / CHUNK) as u32; // below 2^28, as the element is below 2^35
                let tile = Encode { quantizer: self, stream, chunk, x, scales, codes };
                kernels::encode_tile(level, tile).err().map(|at| first + at)
            })
            .min()
            .map_or(Ok(()), Err)
    }

    /// Checks the scales of a payload of `n` numbers whose length was checked.
    pub(crate) fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        let scales = payload[..self.split(n)].chunks_exact(4);
        // Also refuses a negative number: its bits are above those of every positive one.
        let bad = |bytes: &[u8]| {
            bytes.first_chunk().is_none_or(|&bytes| u32::from_le_bytes(bytes) >= SCALE_LIMIT.to_bits())
        };
        match scales.into_iter().position(bad) {
            Some(block) => Err(Fault::Scale { block }),
            None => Ok(()),
        }
    }

    /// Decodes the numbers `first..first + out.len()` of a checked payload of `n`; `first` is a multiple of 32.
    pub(crate) fn decode(&self, payload: &[u8], n: usize, first: usize, out: &mut [f32]) {
        let (scales, codes) = payload.split_at(self.split(n));
        kernels::decode_tile(Level::current(), Decode { quantizer: self, scales, codes, first, out });
    }
}
