//! The way back with AVX-512.

use std::arch::x86_64::*;

use super::{AHEAD, GROUP, LANES, load_bytes, set1, store_f32};
use crate::kernels::Decode;
use crate::kernels::portable::{self, read_f32};
use crate::kernels::x86::prefetch;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,bmi2")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,bmi2")]
fn decode<const BITS: usize>(tile: Decode<'_>) {
    let Decode { quantizer, scales, codes, mut first, mut out } = tile;
    while !out.is_empty() {
        // All of one block that is wanted.
        let at = first / quantizer.block();
        let step = scales.get(at * 4..).map_or(0.0, |scale| quantizer.step(read_f32(scale)));
        let wanted = (quantizer.block() - first % quantizer.block()).min(out.len());
        let Some(piece) = out.split_off_mut(..wanted) else { return };

        let values = Values::<BITS>::new(step);
        let mut bytes = codes.get(first / 8 * BITS..).unwrap_or(&[]);
        let (groups, _) = piece.as_chunks_mut::<GROUP>();
        let mut done = 0;
        for group in groups {
            // Sixteen symbols are at most 16 bytes, and 16 bytes are always read.
            let (Some(low), Some(high)) =
                (bytes.first_chunk(), bytes.get(2 * BITS..).and_then(<[u8]>::first_chunk))
            else {
                break;
            };
            for line in 0..GROUP * 4 / 64 {
                prefetch(group, AHEAD + line * 64);
            }
            let (halves, _) = group.as_chunks_mut();
            store_f32(&mut halves[0], values.of(low));
            store_f32(&mut halves[1], values.of(high));
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
    step: __m512,
    /// All of them, repeated to 16, where there are that few.
    table: __m512,
}

impl<const BITS: usize> Values<BITS> {
    const LEVELS: u32 = (1 << (BITS - 1)) - 1;
    const MASK: u32 = (1 << BITS) - 1;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(step: f32) -> Self {
        let step = _mm512_set1_ps(step);
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let symbols = _mm512_and_si512(lanes, set1(Self::MASK));
        Self { step, table: Self::scale(symbols, step) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scale(symbols: __m512i, step: __m512) -> __m512 {
        _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(symbols, set1(Self::LEVELS))), step)
    }

    /// The numbers of the first 16 symbols in `bytes`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn of(&self, bytes: &[u8; 16]) -> __m512 {
        let words = u128::from_le_bytes(*bytes);
        match BITS {
            2..=4 => {
                // A permutation looks at the low 4 bits only; the bits above need not be cleared.
                let shifts = load_bytes(&shifts::<BITS>(false));
                let symbols = _mm512_multishift_epi64_epi8(shifts, _mm512_set1_epi64(words as i64));
                _mm512_permutexvar_ps(symbols, self.table)
            }
            5..=7 => {
                let bytes = _mm512_castsi128_si512(_mm_set_epi64x((words >> 64) as i64, words as i64));
                let windows = _mm512_permutexvar_epi8(load_bytes(&windows::<BITS>()), bytes);
                let symbols = _mm512_multishift_epi64_epi8(load_bytes(&shifts::<BITS>(true)), windows);
                Self::scale(_mm512_and_si512(symbols, set1(Self::MASK)), self.step)
            }
            _ => {
                let bytes = _mm_set_epi64x((words >> 64) as i64, words as i64);
                Self::scale(_mm512_cvtepu8_epi32(bytes), self.step)
            }
        }
    }
}

/// First bits of the two symbols of every 64-bit lane: in the whole, or in the lane's window.
const fn shifts<const BITS: usize>(window: bool) -> [u8; 64] {
    let mut index = [0; 64];
    let mut symbol = 0;
    while symbol < LANES {
        let start = if window { symbol / 2 * 2 * BITS / 8 * 8 } else { 0 };
        index[symbol * 4] = (symbol * BITS - start) as u8;
        symbol += 1;
    }
    index
}

/// The bytes from the one where the two symbols of a 64-bit lane begin.
const fn windows<const BITS: usize>() -> [u8; 64] {
    let mut index = [0; 64];
    let mut at = 0;
    while at < 64 {
        index[at] = (at / 8 * 2 * BITS / 8 + at % 8) as u8;
        at += 1;
    }
    index
}
