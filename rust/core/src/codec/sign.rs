//! Signs: one bit a number, and the mean magnitude of each block (Bernstein et al. 2018, arXiv 1802.04434, with the
//! scale of Karimireddy et al. 2019, arXiv 1901.09847).
//!
//! z = sign(x) ||x||_1 / d is biased, and the nearest to x of all z of equal magnitudes: ||z - x||^2 = ||x||^2 -
//! ||x||_1^2 / d, so 1 - a is 1 - 2/pi on normal numbers and 1 - 1/d where all but one are zero.

use std::ops::Range;

use rayon::prelude::*;

use super::check::{check_padding, check_scales};
use super::{Coder, Ranges, TILE, decode_tiles};
use crate::error::{Fault, Result};
use crate::kernels::{self, Level, Signed, Signs};
use crate::philox::Stream;
use crate::quantizer::{SCALE_LIMIT, checked_block};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sign {
    block: usize,
}

impl Sign {
    pub(crate) fn new(block: usize) -> Result<Self> {
        Ok(Self { block: checked_block(block)? })
    }

    pub(crate) fn block(self) -> usize {
        self.block
    }

    pub(crate) fn error_bound(self, n: usize) -> f64 {
        1.0 - 1.0 / n.clamp(1, self.block) as f64
    }

    fn scales(self, n: usize) -> usize {
        n.div_ceil(self.block) * 4
    }
}

impl Coder for Sign {
    fn payload_len(&self, n: usize) -> Result<u64> {
        Ok(self.scales(n) as u64 + n.div_ceil(8) as u64)
    }

    fn limit(&self, _: usize) -> f32 {
        SCALE_LIMIT
    }

    fn encode(&self, x: &[f32], out: &mut [u8], _: &Stream) -> Result<(), usize> {
        let (level, block) = (Level::current(), self.block);
        let tile = TILE.div_ceil(block) * block;
        let (scales, signs) = out.split_at_mut(self.scales(x.len()));
        x.par_chunks(tile)
            .zip(scales.par_chunks_mut(tile / block * 4))
            .zip(signs.par_chunks_mut(tile / 8))
            .enumerate()
            .filter_map(|(t, ((x, scales), signs))| {
                if let Some(at) = kernels::first_beyond(x, SCALE_LIMIT) {
                    return Some(t * tile + at);
                }
                kernels::take_signs(level, Signs { x, block, scales, signs });
                None
            })
            .min()
            .map_or(Ok(()), Err)
    }

    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        let (scales, signs) = payload.split_at(self.scales(n));
        // Not even the rounding of the longest mean reaches the limit: 2^-37, where half a unit of f32 is 2^-25.
        check_scales(scales, SCALE_LIMIT)?;
        check_padding(signs, n)
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        decode_tiles(self, payload, out);
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        Some(self)
    }

    fn compressible(&self, _: usize) -> (Range<usize>, usize) {
        (0..0, 1)
    }
}

impl Ranges for Sign {
    fn decode_range(&self, payload: &[u8], n: usize, first: usize, out: &mut [f32]) {
        let (scales, signs) = payload.split_at(self.scales(n));
        let signs = &signs[first / 8..];
        kernels::signed(Level::current(), Signed { scales, block: self.block, first, signs, out });
    }

    fn bytes<'a>(&self, payload: &'a [u8], n: usize, range: Range<usize>) -> [&'a [u8]; 2] {
        let (scales, signs) = payload.split_at(self.scales(n));
        [
            &signs[range.start / 8..range.end / 8],
            &scales[range.start / self.block * 4..range.end / self.block * 4],
        ]
    }
}
