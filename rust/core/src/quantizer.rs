//! The parameters of the stochastic uniform quantizer, as codec and kernels share them.
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
//! the multiplication). r comes from [`Stream`](crate::philox::Stream), so the bytes are a function of (seed, round,
//! client, x).

use crate::error::{Error, Result};
use crate::philox::CHUNK;

/// Magnitudes and scales are below 2^127: no decoded number is larger than its scale, but for rounding.
pub(crate) const SCALE_LIMIT: f32 = f32::from_bits(0x7F00_0000);
/// 2^-112: of this step and all below, 65536 to a step of 1 are infinitely many in f32.
const NO_STEP: f32 = f32::from_bits(0x0780_0000);
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
pub(crate) struct Quantizer {
    name: &'static str,
    levels: u32,
    block: usize,
    norm: Norm,
}

impl Quantizer {
    /// "q2" to "q8": all levels that `bits` (2 to 8) have room for.
    pub(crate) fn of_bits(bits: u32, block: usize, norm: Norm) -> Result<Self> {
        let name = match bits {
            2 => "q2",
            3 => "q3",
            4 => "q4",
            5 => "q5",
            6 => "q6",
            7 => "q7",
            _ => "q8",
        };
        Ok(Self { name, levels: (1 << (bits - 1)) - 1, block: checked_block(block)?, norm })
    }

    /// "qsgd": any number of levels on either side of zero.
    ///
    /// # Errors
    /// [`Error::CodecSetting`] unless `levels` is 1 to 127 and `block` a multiple of 32 from 32 to 2^20.
    pub(crate) fn qsgd(levels: u32, block: usize, norm: Norm) -> Result<Self> {
        if !(1..=127).contains(&levels) {
            return Err(Error::CodecSetting {
                field: "levels",
                value: levels.to_string(),
                allowed: "1 to 127",
            });
        }
        Ok(Self { name: "qsgd", levels, block: checked_block(block)?, norm })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Bits of one code: enough for the 2L + 1 codes.
    #[inline(always)]
    pub(crate) fn bits(&self) -> u32 {
        u32::BITS - (2 * self.levels).leading_zeros()
    }

    /// Whether the bits have no room for more levels, as the kernels with their own instructions take it.
    #[inline(always)]
    pub(crate) fn full(&self) -> bool {
        self.levels == (1 << (self.bits() - 1)) - 1
    }

    /// Numbers that share a scale.
    #[inline(always)]
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// What the scale of a block is.
    #[inline(always)]
    pub(crate) fn norm(&self) -> Norm {
        self.norm
    }

    /// L: codes go from -L to L.
    #[inline(always)]
    pub(crate) fn levels(&self) -> u32 {
        self.levels
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        let norm = match self.norm {
            Norm::Max => 1,
            Norm::L2 => 2,
        };
        match self.name {
            "qsgd" => [5, self.levels as u8, norm, 0],
            _ => [4, self.bits() as u8, norm, 0],
        }
    }

    /// Per number the variance is step^2 f (1 - f), f the fraction of a step: at most step^2 / 4 and at most step
    /// |x|; the scale is at most the block's Euclidean norm, and its sum of magnitudes sqrt(d) times that.
    pub(crate) fn error_bound(&self, n: usize) -> f64 {
        let (d, levels) = (n.min(self.block) as f64, f64::from(self.levels));
        (d / (4.0 * levels * levels)).min(d.sqrt() / levels)
    }

    /// L / s * 65536 in f32, or 0 where that is not finite.
    ///
    /// The powers of two are multiplied first: the same number, without a subnormal on the way.
    #[inline(always)]
    pub(crate) fn multiplier(&self, scale: f32) -> f32 {
        let multiplier = (self.levels() << 16) as f32 / scale;
        if multiplier.is_finite() { multiplier } else { 0.0 }
    }

    /// s / L in f32, or 0 where the multiplier is: no decoded number is subnormal, which would be slow to work with.
    #[inline(always)]
    pub(crate) fn step(&self, scale: f32) -> f32 {
        let step = scale / self.levels() as f32;
        if step > NO_STEP { step } else { 0.0 }
    }

    /// Elements of the least whole number of both blocks and chunks, which is also whole bytes.
    #[inline(always)]
    pub(crate) fn unit(&self) -> usize {
        // Both are a power of two times an odd number, which is 1 for the chunk.
        let shared = 1 << self.block.trailing_zeros().min(CHUNK.trailing_zeros());
        self.block / shared * CHUNK
    }
}

/// Returns the number of values per scale, which was checked.
///
/// # Errors
/// [`Error::CodecSetting`] unless it is a multiple of 32 from 32 to 2^20.
pub(crate) fn checked_block(block: usize) -> Result<usize> {
    if block == 0 || !block.is_multiple_of(32) || block > MAX_BLOCK {
        return Err(Error::CodecSetting {
            field: "block",
            value: block.to_string(),
            allowed: "a multiple of 32 from 32 to 1048576 (256 is the default)",
        });
    }
    Ok(block)
}
