//! How a flat vector becomes bytes and back; the size is known without running it.
//!
//! A [`Codec`] is a *scheme*, which says what the bytes mean, and perhaps an entropy stage on top of it, which
//! writes the same bytes shorter. One file per scheme; a scheme knows neither frames nor threads' number.

mod accumulate;
mod check;
mod eden;
mod elias_fano;
mod float;
mod low_rank;
mod natural;
mod quantize;
mod rans;
mod sign;
mod sparse;
mod spec;
mod values;

use std::ops::Range;

use rayon::prelude::*;

pub(crate) use eden::Eden;
pub(crate) use float::Float;
pub(crate) use low_rank::LowRank;
pub(crate) use natural::Natural;
pub(crate) use sign::Sign;
pub(crate) use sparse::{RandK, TopK};
pub(crate) use values::Values;

use crate::error::{Error, Fault, Result};
use crate::philox::Stream;
use crate::quantizer::Quantizer;
use crate::scratch::Scratch;

/// Longest message in numbers: 2^35, where the generator's 32-bit block counter ends.
pub const MAX_ELEMENTS: u64 = 1 << 35;
/// Numbers that one task works on: they fit the first-level cache and outweigh a task's start.
const TILE: usize = 8192;

/// One way to write numbers as bytes. Lengths were checked by the caller: `n` is at most [`MAX_ELEMENTS`] and
/// `payload` has the bytes of `n` numbers.
pub(crate) trait Coder: Sync {
    /// Bytes of the payload of `n` numbers.
    ///
    /// # Errors
    /// Where this coder is made for another number of numbers.
    fn payload_len(&self, n: usize) -> Result<u64>;

    /// Magnitudes below this one can be encoded in a message of `n` numbers: nothing that they decode to is infinite.
    fn limit(&self, n: usize) -> f32;

    /// Writes the payload of `x`.
    ///
    /// # Errors
    /// The index of the first number that is not finite or not below the limit; `out` is then undefined.
    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize>;

    /// Checks that `payload` is well formed and all that it decodes to finite.
    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault>;

    /// Writes the numbers of a checked payload.
    fn decode(&self, payload: &[u8], out: &mut [f32]);

    /// The coder once more, where it can decode a part of the numbers alone.
    fn ranges(&self) -> Option<&dyn Ranges> {
        None
    }

    /// The bytes of the payload of `n` numbers whose values are far from uniform, and the number of neighbouring
    /// bytes after which such bytes are alike again: what an entropy coder can shorten.
    fn compressible(&self, n: usize) -> (Range<usize>, usize);
}

/// A coder whose numbers can be decoded from anywhere.
pub(crate) trait Ranges: Coder {
    /// Decodes the numbers `first..first + out.len()` of a checked payload of `n`; `first` is a multiple of 32.
    fn decode_range(&self, payload: &[u8], n: usize, first: usize, out: &mut [f32]);

    /// The bytes of some numbers of a payload of `n`, and those of their scales; only for a hint, not exact.
    fn bytes<'a>(&self, payload: &'a [u8], n: usize, range: Range<usize>) -> [&'a [u8]; 2];
}

/// Decodes a whole payload, tile by tile on all threads.
fn decode_tiles(coder: &dyn Ranges, payload: &[u8], out: &mut [f32]) {
    let n = out.len();
    out.par_chunks_mut(TILE).enumerate().for_each(|(t, out)| coder.decode_range(payload, n, t * TILE, out));
}

/// What the bytes mean.
#[derive(Debug, Clone, PartialEq)]
enum Scheme {
    Float(Float),
    Quantized(Quantizer),
    Natural(Natural),
    Sign(Sign),
    TopK(TopK),
    RandK(RandK),
    Eden(Eden),
    LowRank(LowRank),
}

/// A codec whose settings were checked; [`str::parse`] makes one, and [`ToString`] gives its settings back.
#[derive(Debug, Clone, PartialEq)]
pub struct Codec {
    scheme: Scheme,
    /// Whether the payload is written shorter by an entropy coder.
    rans: bool,
}

impl Codec {
    /// All names of schemes, as [`str::parse`] takes them.
    pub const NAMES: [&'static str; 18] = [
        "none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "qsgd", "natural", "sign", "topk",
        "randk", "eden", "drive", "powersgd",
    ];

    fn coder(&self) -> &dyn Coder {
        match &self.scheme {
            Scheme::Float(coder) => coder,
            Scheme::Quantized(coder) => coder,
            Scheme::Natural(coder) => coder,
            Scheme::Sign(coder) => coder,
            Scheme::TopK(coder) => coder,
            Scheme::RandK(coder) => coder,
            Scheme::Eden(coder) => coder,
            Scheme::LowRank(coder) => coder,
        }
    }

    /// The coder where a part of a message can be decoded alone.
    pub(crate) fn ranges(&self) -> Option<&dyn Ranges> {
        if self.rans { None } else { self.coder().ranges() }
    }

    /// Name of its scheme.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.scheme {
            Scheme::Float(float) => float.name(),
            Scheme::Quantized(quantizer) => quantizer.name(),
            Scheme::Natural(_) => "natural",
            Scheme::Sign(_) => "sign",
            Scheme::TopK(_) => "topk",
            Scheme::RandK(_) => "randk",
            Scheme::Eden(_) => "eden",
            Scheme::LowRank(_) => "powersgd",
        }
    }

    /// Numbers that share a scale, 0 for a codec without scales.
    #[must_use]
    pub fn block(&self) -> u32 {
        let block = match &self.scheme {
            Scheme::Quantized(quantizer) => quantizer.block(),
            Scheme::Sign(sign) => sign.block(),
            Scheme::Eden(eden) => eden.block(),
            _ => 0,
        };
        block as u32 // at most 2^20
    }

    /// Id on the wire, lowest byte first: the family (128 more with the entropy stage), then what else tells two
    /// codecs of a family apart: bits or levels, the norm (0 none, 1 max, 2 l2) or the family of the values, 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        let [family, a, b, c] = match &self.scheme {
            Scheme::Float(float) => [float.family(), float.bits(), 0, 0],
            Scheme::Quantized(quantizer) => quantizer.id(),
            Scheme::Natural(_) => [6, 9, 0, 0],
            Scheme::Sign(_) => [7, 1, 0, 0],
            Scheme::TopK(topk) => [8, topk.values().bits(), topk.values().family(), 0],
            Scheme::RandK(randk) => [9, randk.values().bits(), randk.values().family(), 0],
            Scheme::Eden(eden) => [10, eden.bits() as u8, eden.rotations() as u8, 0],
            Scheme::LowRank(low_rank) => [11, low_rank.values().bits(), low_rank.values().family(), 0],
        };
        u32::from_le_bytes([family | u8::from(self.rans) << 7, a, b, c])
    }

    /// Whether the expectation of what is decoded is what was encoded: to 2^-17 of a step; of "eden" to 2 % of the length
    /// of a block, whatever is in it, and so with two rotations and blocks of 4096 numbers or more only. (The last block
    /// of a message may be shorter.)
    #[must_use]
    pub fn unbiased(&self) -> bool {
        match &self.scheme {
            Scheme::Float(float) => *float == Float::F32,
            Scheme::Quantized(_) | Scheme::Natural(_) => true,
            Scheme::Sign(_) | Scheme::TopK(_) | Scheme::LowRank(_) => false,
            Scheme::RandK(randk) => randk.values().unbiased(),
            Scheme::Eden(eden) => eden.unbiased(),
        }
    }

    /// Whether E<z, x> is ||x||^2 for what is decoded, z: so of all that are unbiased, of "eden" in every draw, and of
    /// "randk" but for the rounding of its values. With omega the error E||z - x||^2 / ||x||^2, z / (1 + omega) is then
    /// contractive: its error is 1 - 1 / (1 + omega).
    #[must_use]
    pub fn keeps_product(&self) -> bool {
        self.unbiased() || matches!(self.scheme, Scheme::Eden(_) | Scheme::RandK(_))
    }

    /// Whether gossip may use it only with a memory, as what it drops would be lost for good.
    #[must_use]
    pub fn needs_memory(&self) -> bool {
        matches!(self.scheme, Scheme::Sign(_) | Scheme::TopK(_) | Scheme::LowRank(_))
    }

    /// The largest E||z - x||^2 / ||x||^2 over all x of `n` normal floats: the relative variance omega of an unbiased
    /// codec, 1 - a of a contractive one.
    ///
    /// Of "eden" it is for the shortest block of the message, and with more than one bit or two rotations the most that
    /// a search has found. Of "fp16", also as the values of another codec, it holds of numbers that are normal there, from
    /// 2^-14 on; smaller ones, as B's are where LoRA begins, are off by up to 2^-25 each.
    #[must_use]
    pub fn error_bound(&self, n: usize) -> f64 {
        match &self.scheme {
            Scheme::Float(float) => float.error_bound(),
            Scheme::Quantized(quantizer) => quantizer.error_bound(n),
            Scheme::Natural(_) => 0.125,
            Scheme::Sign(sign) => sign.error_bound(n),
            Scheme::TopK(topk) => topk.error_bound(n),
            Scheme::RandK(randk) => randk.error_bound(n),
            Scheme::Eden(eden) => eden.error_bound(n),
            Scheme::LowRank(low_rank) => low_rank.error_bound(),
        }
    }

    /// Magnitudes below this one can be encoded in a message of `n` numbers.
    #[must_use]
    pub fn limit(&self, n: usize) -> f32 {
        self.coder().limit(n)
    }

    /// The same codec for messages that consist of matrices of these (rows, columns), one after the other, each
    /// row-major: what "powersgd" needs to know, and no other scheme uses.
    ///
    /// # Errors
    /// [`Error::Argument`] where they have more than [`MAX_ELEMENTS`] numbers.
    pub fn with_shapes(&self, shapes: &[(usize, usize)]) -> Result<Self> {
        match &self.scheme {
            Scheme::LowRank(low_rank) => {
                Ok(Self { scheme: Scheme::LowRank(low_rank.with_shapes(shapes)?), rans: self.rans })
            }
            _ => Ok(self.clone()),
        }
    }

    /// How many numbers a message has, where the codec fixes it: the sum of the shapes of "powersgd".
    #[must_use]
    pub fn elements(&self) -> Option<usize> {
        match &self.scheme {
            Scheme::LowRank(low_rank) => Some(low_rank.numbers()),
            _ => None,
        }
    }

    /// Whether messages of `n` numbers may be shorter than [`Codec::payload_len`].
    #[must_use]
    pub fn variable_length(&self) -> bool {
        self.rans
    }

    /// Bytes of the payload of `n` numbers; the most that it has where the codec has the entropy stage.
    ///
    /// # Errors
    /// [`Error::Argument`] where `n` is more than [`MAX_ELEMENTS`], [`Error::Length`] where it is not what the
    /// shapes of "powersgd" add up to.
    pub fn payload_len(&self, n: usize) -> Result<usize> {
        check_elements(n)?;
        let bytes = self.coder().payload_len(n)? + u64::from(self.rans);
        usize::try_from(bytes).map_err(|_| Error::Argument {
            field: "n",
            value: n.to_string(),
            allowed: "small enough for this machine's addresses",
        })
    }

    /// Writes the payload of `x` to the start of `out`, which has [`Codec::payload_len`] bytes, and returns its
    /// length. The rest of `out`, if any, is zeros.
    ///
    /// # Errors
    /// [`Error::Length`], or [`Error::Value`] with the first number that cannot be represented; `out` is
    /// then all zeros.
    pub fn encode_into(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<usize> {
        let need = self.payload_len(x.len())?;
        if out.len() != need {
            return Err(Error::Length { field: "out", have: out.len(), need });
        }
        let coder = self.coder();
        let written = if self.rans {
            u8::scratch(need - 1, |plain| {
                let (part, period) = coder.compressible(x.len());
                coder.encode(x, plain, stream).map(|()| rans::encode(plain, part, period, out))
            })
        } else {
            coder.encode(x, out, stream).map(|()| need)
        };
        written.map_err(|index| {
            out.fill(0);
            Error::Value {
                row: None,
                index,
                value: x[index],
                limit: coder.limit(x.len()),
                codec: self.name(),
            }
        })
    }

    /// Checks a payload of `n` numbers: its length, its scales and codes, and so that all it decodes to is finite.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn check_payload(&self, payload: &[u8], n: usize) -> Result<()> {
        self.plain(payload, n, |plain| Ok(self.coder().check(plain, n)?))
    }

    /// Writes the numbers of `payload` to `out`.
    ///
    /// # Errors
    /// As [`Codec::check_payload`]; `out` is then as it was.
    pub fn decode_into(&self, payload: &[u8], out: &mut [f32]) -> Result<()> {
        self.plain(payload, out.len(), |plain| {
            self.coder().check(plain, out.len())?;
            self.coder().decode(plain, out);
            Ok(())
        })
    }

    /// Writes the numbers of a payload that [`Codec::check_payload`] has accepted.
    pub(crate) fn decode_checked_into(&self, payload: &[u8], out: &mut [f32]) -> Result<()> {
        self.plain(payload, out.len(), |plain| {
            self.coder().decode(plain, out);
            Ok(())
        })
    }

    /// Calls `work` with the bytes of the scheme, of the right length.
    fn plain(&self, payload: &[u8], n: usize, work: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let need = self.payload_len(n)?;
        if !self.rans {
            if payload.len() != need {
                return Err(Fault::Size { have: payload.len(), need }.into());
            }
            return work(payload);
        }
        if payload.len() > need {
            return Err(Fault::Size { have: payload.len(), need }.into());
        }
        let (part, period) = self.coder().compressible(n);
        u8::scratch(need - 1, |plain| {
            rans::decode(payload, part, period, plain)?;
            work(plain)
        })
    }
}

/// Checks that `n` numbers fit one message.
pub(crate) fn check_elements(n: usize) -> Result<()> {
    if n as u64 > MAX_ELEMENTS {
        return Err(Error::Argument { field: "n", value: n.to_string(), allowed: "at most 2^35 numbers" });
    }
    Ok(())
}
