//! The bit stream with AVX2.

use std::arch::x86_64::*;

use super::{load_bytes, set1, store_bytes};
use crate::philox::CHUNK;

/// Symbols of a chunk as they leave the arithmetic: of every 32 elements, the 128-bit halves hold elements
/// 0..4, 8..12, 16..20, 24..28 and the four after each of them, one a byte.
pub(super) type Symbols = [__m256i; CHUNK / 32];

/// The symbols in order.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn in_order(symbols: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(symbols, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Packs a chunk into a stream of `BITS` bits each; `out` has exactly the bytes of a chunk.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pack<const BITS: usize>(symbols: Symbols, out: &mut [u8]) {
    // Neighbours move together, as in `portable::pack`.
    let pairs = |bytes| _mm256_maddubs_epi16(_mm256_set1_epi16((1 << BITS << 8) | 1), bytes);
    let fours = |bytes| _mm256_madd_epi16(pairs(bytes), set1(1 | 1 << (2 * BITS) << 16));
    let (vectors, _) = out.as_chunks_mut::<32>();
    match BITS {
        2 => {
            let [a, b, c, d] = symbols.map(fours);
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            vectors.iter_mut().for_each(|out| store_bytes(out, merge(bytes, &ZIP_BYTES)));
        }
        4 => {
            let (twos, _) = symbols.as_chunks();
            for (&[a, b], out) in twos.iter().zip(vectors) {
                store_bytes(out, merge(_mm256_packus_epi16(pairs(a), pairs(b)), &ZIP_WORDS));
            }
        }
        8 => {
            for (bytes, out) in symbols.into_iter().zip(vectors) {
                store_bytes(out, in_order(bytes));
            }
        }
        _ => {
            let low = _mm256_set1_epi64x((1 << (4 * BITS)) - 1);
            let move_by = _mm_cvtsi32_si128(32 - 4 * BITS as i32);
            for (bytes, out) in symbols.into_iter().zip(out.chunks_exact_mut(4 * BITS)) {
                let fours = in_order(fours(bytes));
                let moved = _mm256_andnot_si256(low, _mm256_srl_epi64(fours, move_by));
                let eights = _mm256_or_si256(_mm256_and_si256(fours, low), moved);
                let mut bytes = [0; 32];
                store_bytes(&mut bytes, _mm256_shuffle_epi8(eights, load_bytes(&first_bytes::<BITS>())));
                for (half, out) in bytes.chunks_exact(16).zip(out.chunks_exact_mut(2 * BITS)) {
                    out.copy_from_slice(&half[..2 * BITS]);
                }
            }
        }
    }
}

/// Puts in order what was packed from vectors of [`Symbols`]: units of both halves in turn.
#[inline]
#[target_feature(enable = "avx2")]
fn merge(bytes: __m256i, zip: &[u8; 32]) -> __m256i {
    _mm256_shuffle_epi8(_mm256_permute4x64_epi64::<0b11_01_10_00>(bytes), load_bytes(zip))
}

/// In each half of 16 bytes: bytes of the first 8 and of the last 8 in turn.
const ZIP_BYTES: [u8; 32] = zip(1);
/// The same with pairs of bytes.
const ZIP_WORDS: [u8; 32] = zip(2);

const fn zip(size: usize) -> [u8; 32] {
    let mut index = [0; 32];
    let mut at = 0;
    while at < 32 {
        let (unit, byte) = (at % 16 / size, at % size);
        index[at] = (unit / 2 * size + unit % 2 * 8 + byte) as u8;
        at += 1;
    }
    index
}

/// In each half of 16 bytes: the first `BITS` bytes of every 8, then bytes without meaning.
const fn first_bytes<const BITS: usize>() -> [u8; 32] {
    let mut index = [0; 32];
    let mut at = 0;
    while at < 32 {
        index[at] = (at % 16 / BITS * 8 + at % 16 % BITS) as u8 & 15;
        at += 1;
    }
    index
}
