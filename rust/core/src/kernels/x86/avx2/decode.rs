//! The way back with AVX2.

use std::arch::x86_64::*;

use super::{AHEAD, GROUP, LANES, set1, store_f32};
use crate::kernels::Decode;
use crate::kernels::portable::{self, read_f32};
use crate::kernels::x86::prefetch;

#[target_feature(enable = "avx2,bmi2")]
pub(in crate::kernels::x86) fn decode_tile(tile: Decode<'_>) {
    match tile.quantizer.bits() {
        2 => decode::<2>(tile),
        3 => decode::<3>(tile),
        4 => decode::<4>(tile),
        5 => decode::<5>(tile),
        6 => decode::<6>(tile),
        7 => decode::<7>(tile),
        _ => decode::<8>(tile),
    }
}

#[target_feature(enable = "avx2,bmi2")]
fn decode<const BITS: usize>(tile: Decode<'_>) {
    let Decode { quantizer, scales, codes, mut first, mut out } = tile;
    let (mut at, mut within) = (first / quantizer.block(), first % quantizer.block());
    while !out.is_empty() {
        // All of one block that is wanted.
        let step = scales.get(at * 4..).map_or(0.0, |scale| quantizer.step(read_f32(scale)));
        let wanted = (quantizer.block() - within).min(out.len());
        let Some(piece) = out.split_off_mut(..wanted) else { return };
        (at, within) = (at + 1, 0);

        let values = Values::<BITS>::new(step);
        let mut bytes = codes.get(first / 8 * BITS..).unwrap_or(&[]);
        let (groups, _) = piece.as_chunks_mut::<GROUP>();
        let mut done = 0;
        for group in groups {
            // Eight symbols are `BITS` bytes, and 8 bytes are always read.
            let Some((now, _)) = bytes.split_at_checked(3 * BITS + 8) else { break };
            for line in 0..GROUP * 4 / 64 {
                prefetch(group, AHEAD + line * 64);
            }
            let (eights, _) = group.as_chunks_mut::<LANES>();
            for (e, out) in eights.iter_mut().enumerate() {
                let word = now[e * BITS..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                store_f32(out, values.of(word));
            }
            bytes = &bytes[4 * BITS..];
            done += GROUP;
        }
        if done < piece.len() {
            let out = &mut piece[done..];
            portable::decode_tile(Decode { quantizer, scales, codes, first: first + done, out });
        }
        first += wanted;
    }
}

/// The numbers that the symbols of one block stand for.
struct Values<const BITS: usize> {
    step: __m256,
    /// All of them, repeated to 8, where there are that few.
    table: __m256,
}

impl<const BITS: usize> Values<BITS> {
    const LEVELS: u32 = (1 << (BITS - 1)) - 1;
    const MASK: u32 = (1 << BITS) - 1;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(step: f32) -> Self {
        let step = _mm256_set1_ps(step);
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        Self { step, table: Self::scale(_mm256_and_si256(lanes, set1(Self::MASK)), step) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn scale(symbols: __m256i, step: __m256) -> __m256 {
        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(symbols, set1(Self::LEVELS))), step)
    }

    /// The numbers of the first 8 symbols in `word`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, word: u64) -> __m256 {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let shifts = _mm256_mullo_epi32(lanes, set1(BITS as u32));
        match BITS {
            // A permutation looks at the low 3 bits only; the bits above need not be cleared.
            2 | 3 => _mm256_permutevar8x32_ps(self.table, _mm256_srlv_epi32(set1(word as u32), shifts)),
            4 => {
                let symbols = _mm256_srlv_epi32(set1(word as u32), shifts);
                Self::scale(_mm256_and_si256(symbols, set1(Self::MASK)), self.step)
            }
            5..=7 => {
                let (low, high) = (set1(word as u32), set1((word >> (4 * BITS)) as u32));
                let fours = _mm256_blend_epi32::<0b1111_0000>(low, high);
                let shifts = _mm256_mullo_epi32(_mm256_and_si256(lanes, set1(3)), set1(BITS as u32));
                let symbols = _mm256_srlv_epi32(fours, shifts);
                Self::scale(_mm256_and_si256(symbols, set1(Self::MASK)), self.step)
            }
            _ => Self::scale(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(word as i64)), self.step),
        }
    }
}
