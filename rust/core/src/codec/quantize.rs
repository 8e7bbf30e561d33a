//! The payload of the stochastic uniform quantizer: all scales, then all codes as one bit stream.
//!
//! What a code is says [`Quantizer`].

use std::ops::Range;

use rayon::prelude::*;

use super::check::{check_padding, check_scales};
use super::{Coder, Ranges, TILE, decode_tiles};
use crate::error::{Fault, Result};
use crate::kernels::{self, Codes, Decode, Encode, Level};
use crate::philox::{CHUNK, Stream};
use crate::quantizer::{Quantizer, SCALE_LIMIT};

/// Codes that one task checks: more than it decodes, as that takes a tenth of the time.
const CHECKED: usize = 8 * TILE;

impl Quantizer {
    /// Bytes of the scales of `n` numbers, which come first.
    fn scales(&self, n: usize) -> usize {
        n.div_ceil(self.block()) * 4
    }

    /// Checks that no code is above 2L, which stands for L.
    fn check_codes(&self, bytes: &[u8]) -> Result<(), Fault> {
        let (level, bits, most) = (Level::current(), self.bits(), 2 * self.levels());
        let first = |bytes| Codes { bits, most, bytes }.first_beyond(level);
        let task = CHECKED / 8 * bits as usize;
        let found = match bytes.len() <= task {
            true => first(bytes), // not worth waking another thread
            false => bytes
                .par_chunks(task)
                .enumerate()
                .find_map_first(|(t, bytes)| first(bytes).map(|at| t * CHECKED + at)),
        };
        found.map_or(Ok(()), |index| Err(Fault::Code { index }))
    }
}

impl Coder for Quantizer {
    fn payload_len(&self, n: usize) -> Result<u64> {
        // At most 2^35 numbers of at most 9 bits: no overflow.
        Ok(self.scales(n) as u64 + (n as u64 * u64::from(self.bits())).div_ceil(8))
    }

    fn limit(&self, _: usize) -> f32 {
        SCALE_LIMIT
    }

    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        let level = Level::current();
        let tile = TILE.div_ceil(self.unit()) * self.unit();
        let (scales, codes) = out.split_at_mut(self.scales(x.len()));
        if x.len() <= tile {
            // Not worth waking another thread.
            return kernels::encode_tile(
                level,
                Encode { quantizer: self, stream, chunk: 0, x, scales, codes },
            );
        }
        x.par_chunks(tile)
            .zip(scales.par_chunks_mut(tile / self.block() * 4))
            .zip(codes.par_chunks_mut(tile / 8 * self.bits() as usize))
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

    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        let (scales, codes) = payload.split_at(self.scales(n));
        check_scales(scales, SCALE_LIMIT)?;
        check_padding(codes, n * self.bits() as usize)?;
        self.check_codes(codes)
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        decode_tiles(self, payload, out);
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        Some(self)
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        let (start, bits) = (self.scales(n), self.bits() as usize);
        // Eight codes are `bits` bytes; of 2, 4 and 8 bits every byte holds whole codes.
        let period = if bits.is_power_of_two() { 1 } else { bits };
        (start..start + (n * bits).div_ceil(8), period)
    }
}

impl Ranges for Quantizer {
    fn decode_range(&self, payload: &[u8], n: usize, first: usize, out: &mut [f32]) {
        let (scales, codes) = payload.split_at(self.scales(n));
        kernels::decode_tile(Level::current(), Decode { quantizer: self, scales, codes, first, out });
    }

    fn bytes<'a>(&self, payload: &'a [u8], n: usize, range: Range<usize>) -> [&'a [u8]; 2] {
        let (scales, codes) = payload.split_at(self.scales(n));
        let at = |element: usize| element * self.bits() as usize / 8; // rounded down, so never beyond the end
        [
            &codes[at(range.start)..at(range.end)],
            &scales[range.start / self.block() * 4..range.end / self.block() * 4],
        ]
    }
}
