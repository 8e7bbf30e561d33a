//! Natural compression: the sign and a power of two, 9 bits a number (Horvath et al. 2022, arXiv 1905.10988).
//!
//! |x| between the powers of two p and 2p becomes 2p with probability (|x| - p) / p, else p, so the expectation
//! is x and the relative variance is at most 1/8 (at |x| = 4p/3). Below the least normal number p is 0. The
//! payload is one exponent byte a number, as a float has it (0 is zero), then one sign bit a number.

use std::ops::Range;

use rayon::prelude::*;

use super::check::check_padding;
use super::{Coder, Ranges, TILE, decode_tiles};
use crate::error::{Fault, Result};
use crate::kernels::{self, Level, Powers, Values};
use crate::philox::{CHUNK, Stream};
use crate::quantizer::SCALE_LIMIT;

/// The exponent byte of infinity.
const INFINITE: u8 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Natural;

impl Coder for Natural {
    fn payload_len(&self, n: usize) -> Result<u64> {
        Ok(n as u64 + n.div_ceil(8) as u64)
    }

    fn limit(&self, _: usize) -> f32 {
        SCALE_LIMIT
    }

    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        let level = Level::current();
        let (exponents, signs) = out.split_at_mut(x.len());
        x.par_chunks(TILE)
            .zip(exponents.par_chunks_mut(TILE))
            .zip(signs.par_chunks_mut(TILE / 8))
            .enumerate()
            .filter_map(|(t, ((x, exponents), signs))| {
                if let Some(at) = kernels::first_beyond(x, SCALE_LIMIT) {
                    return Some(t * TILE + at);
                }
                let chunk = (t * TILE / CHUNK) as u32; // below 2^28, as the element is below 2^35
                kernels::round_to_powers(level, Powers { stream, chunk, x, exponents, signs });
                None
            })
            .min()
            .map_or(Ok(()), Err)
    }

    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        let (exponents, signs) = payload.split_at(n);
        if let Some(index) = exponents.iter().position(|&exponent| exponent == INFINITE) {
            return Err(Fault::NotFinite { index });
        }
        check_padding(signs, n)
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        decode_tiles(self, payload, out);
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        Some(self)
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        (0..n, 1)
    }
}

impl Ranges for Natural {
    fn decode_range(&self, payload: &[u8], n: usize, first: usize, out: &mut [f32]) {
        let (exponents, signs) = payload.split_at(n);
        let (exponents, signs) = (&exponents[first..], &signs[first / 8..]);
        kernels::powers_of_two(Level::current(), Values { exponents, signs, out });
    }

    fn bytes<'a>(&self, payload: &'a [u8], _: usize, range: Range<usize>) -> [&'a [u8]; 2] {
        [&payload[range], &[]]
    }
}
