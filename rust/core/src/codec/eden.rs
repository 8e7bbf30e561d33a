//! EDEN: 1 to 4 bits a number, unbiased, with an error that does not depend on what the numbers are
//! (Vargaftik et al. 2022, arXiv 2108.08842; with one bit it is DRIVE, arXiv 2105.08339).
//!
//! A block of d numbers is rotated at random, y = R x, so that y sqrt(d) / ||y|| looks standard normal; each
//! number goes to the nearest Lloyd-Max centroid c, and the scale S = ||y||^2 / <c, y> makes z = R^T (S c)
//! unbiased: <z, x> = ||x||^2 in every draw. The error E||z - x||^2 / ||x||^2 is .571, .133, .0358, .0096 for 1
//! to 4 bits and long blocks.
//!
//! R is Hadamard times random signs, twice, which rotates long blocks almost as a uniformly random rotation would. What is
//! left shows on vectors of few numbers: after one or two equal ones many of a block's d numbers lie on a threshold, on
//! whose sides a third, small one puts them. So the expectation of z is off by up to 1.2 / sqrt(d) of ||x|| at 1 bit, less
//! at more: 2 % in blocks of 4096, 10 % and more in blocks of 32. With one rotation it is off by 9 to 80 % in any block.
//!
//! Blocks have a power of two of numbers, the last one as few as hold the rest. The payload is the nonce of the
//! rotation (u64), all scales (f32), and the codes.

use std::ops::Range;

use rayon::prelude::*;

use super::check::check_scales;
use super::{Coder, Ranges};
use crate::error::{Error, Fault, Result};
use crate::kernels::portable::read_f32;
use crate::kernels::{self, GROUP, Level, Rotation, Snap, Unsnap};
use crate::philox::Stream;
use crate::scratch::Scratch;

const NONCE: usize = 8;
const MAX_BLOCK: usize = 1 << 16;
/// 2^80: the Euclidean norm of a block of such numbers is below 2^88.
const LIMIT: f32 = f32::from_bits(0x6780_0000);
/// 2^92: a scale is at most ||y|| over the least centroid (.128), hence below 2^91. What is decoded from one below the
/// limit stays below 2^118 while it is rotated back.
const SCALE_LIMIT: f32 = f32::from_bits(0x6D80_0000);
/// 2^-70: a block of smaller numbers only is sent as zeros.
const LEAST: f32 = f32::from_bits(0x1C80_0000);
/// 2^-80: a scale is at least the root mean square of its block over 1.6, hence above 2^-79. A lower one, which no encoder
/// writes, counts as 0: subnormal numbers on the way back would take many CPUs a hundred times as long.
const LEAST_SCALE: f32 = f32::from_bits(0x1780_0000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Eden {
    bits: u32,
    block: usize,
    rotations: u32,
}

impl Eden {
    /// # Errors
    /// [`Error::CodecSetting`] unless `bits` is 1 to 4, `block` a power of two from 32 to 2^16, and `rotations` 1 or 2.
    pub(crate) fn new(bits: u32, block: usize, rotations: u32) -> Result<Self> {
        let refuse = |field, value: String, allowed| Err(Error::CodecSetting { field, value, allowed });
        if !(1..=4).contains(&bits) {
            return refuse("bits", bits.to_string(), "1 to 4");
        }
        if !(GROUP..=MAX_BLOCK).contains(&block) || !block.is_power_of_two() {
            return refuse(
                "block",
                block.to_string(),
                "a power of two from 32 to 65536 (4096 is the default)",
            );
        }
        if !(1..=2).contains(&rotations) {
            return refuse("rotations", rotations.to_string(), "1 or 2 (the default)");
        }
        Ok(Self { bits, block, rotations })
    }

    pub(crate) fn bits(self) -> u32 {
        self.bits
    }

    pub(crate) fn block(self) -> usize {
        self.block
    }

    pub(crate) fn rotations(self) -> u32 {
        self.rotations
    }

    /// Whether the bias is at most 2 % of a block's length, whatever is in it.
    pub(crate) fn unbiased(self) -> bool {
        self.rotations == 2 && self.block >= 4096
    }

    /// 1 / (1 - D) - 1, with D the distortion of the Lloyd-Max quantizer of a standard normal number.
    ///
    /// One rotation does not make few numbers normal: the values are the most that a search of up to eight has found. (Of
    /// four equal ones side by side half the draws make one number, whose error is 3 with one bit, and the others four.)
    /// Nor are the d numbers of a short block normal: what was found there with two rotations (.82 for 1 bit and 32
    /// numbers) is below 1 + 16 / d times as much.
    pub(crate) fn error_bound(self, n: usize) -> f64 {
        let at = self.bits as usize - 1;
        let long = match self.rotations {
            1 => [1.5, 0.292, 0.0734, 0.0201][at],
            _ => 1.0 / (1.0 - [0.363_380_2, 0.117_481_8, 0.034_547_8, 0.009_501_0][at]) - 1.0,
        };
        let shortest = match self.rest(n) {
            0 => self.block,
            rest => rest,
        };
        long * (1.0 + 16.0 / shortest as f64)
    }

    /// Numbers of the last, shorter block, with those that fill it up; 0 where there is none.
    fn rest(self, n: usize) -> usize {
        match n % self.block {
            0 => 0,
            rest => rest.next_power_of_two().max(GROUP),
        }
    }

    fn padded(self, n: usize) -> usize {
        n / self.block * self.block + self.rest(n)
    }

    fn code_bytes(self, numbers: usize) -> usize {
        numbers / 8 * self.bits as usize
    }

    /// Bytes before the codes.
    fn head(self, n: usize) -> usize {
        NONCE + n.div_ceil(self.block) * 4
    }

    fn rotation<'a>(&self, stream: &'a Stream, block: usize) -> Rotation<'a> {
        Rotation { stream, first: block * self.block, rounds: self.rotations, bits: self.bits }
    }
}

/// The nonce at the start of a message.
pub(super) fn read_nonce(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Coder for Eden {
    fn payload_len(&self, n: usize) -> Result<u64> {
        Ok((self.head(n) + self.code_bytes(self.padded(n))) as u64)
    }

    fn limit(&self, _: usize) -> f32 {
        LIMIT
    }

    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        let (level, nonce) = (Level::current(), stream.nonce());
        let signs = Stream::rotation(nonce);
        let (head, codes) = out.split_at_mut(self.head(x.len()));
        let (first, scales) = head.split_at_mut(NONCE);
        first.copy_from_slice(&nonce.to_le_bytes());
        x.par_chunks(self.block)
            .zip(scales.par_chunks_exact_mut(4))
            .zip(codes.par_chunks_mut(self.code_bytes(self.block)))
            .enumerate()
            .filter_map(|(block, ((values, scale), codes))| {
                if let Some(at) = kernels::first_beyond(values, LIMIT) {
                    return Some(block * self.block + at);
                }
                let size = if values.len() == self.block { self.block } else { self.rest(values.len()) };
                f32::scratch(size, |x| {
                    x[..values.len()].copy_from_slice(values);
                    x[values.len()..].fill(0.0);
                    let rotation = self.rotation(&signs, block);
                    let found = kernels::snap_block(level, Snap { rotation, least: LEAST, x, codes });
                    scale.copy_from_slice(&found.to_le_bytes());
                });
                None
            })
            .min()
            .map_or(Ok(()), Err)
    }

    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        check_scales(&payload[NONCE..self.head(n)], SCALE_LIMIT)
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        let level = Level::current();
        let signs = Stream::rotation(read_nonce(payload));
        let (head, codes) = payload.split_at(self.head(out.len()));
        out.par_chunks_mut(self.block)
            .zip(head[NONCE..].par_chunks_exact(4))
            .zip(codes.par_chunks(self.code_bytes(self.block)))
            .enumerate()
            .for_each(|(block, ((values, scale), codes))| {
                let (rotation, scale) = (self.rotation(&signs, block), read_f32(scale));
                let scale = if scale < LEAST_SCALE { 0.0 } else { scale };
                if values.len() == self.block {
                    return kernels::unsnap_block(level, Unsnap { rotation, scale, codes, out: values });
                }
                f32::scratch(self.rest(values.len()), |out| {
                    kernels::unsnap_block(level, Unsnap { rotation, scale, codes, out });
                    values.copy_from_slice(&out[..values.len()]);
                });
            });
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        let period = if self.bits == 3 { 3 } else { 1 };
        (self.head(n)..self.head(n) + self.code_bytes(self.padded(n)), period)
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        None
    }
}
