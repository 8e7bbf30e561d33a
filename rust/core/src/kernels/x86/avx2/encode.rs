//! The quantizer with AVX2.

use std::arch::x86_64::*;

use super::pack::{Symbols, in_order, pack};
use super::philox::Philox;
use super::{AHEAD, GROUP, LANES, load_bytes, load_f32, set1, store_bytes};
use crate::kernels::Encode;
use crate::kernels::portable::{self, block_scale, root};
use crate::kernels::x86::blocks::{Multipliers, padded};
use crate::kernels::x86::prefetch;
use crate::philox::CHUNK;

/// Counters of a chunk.
const COUNTERS: u32 = 16;
/// Elements whose scales are found before their codes: they are then still in the first-level cache.
const SPAN: usize = 512;

#[target_feature(enable = "avx2,bmi2")]
pub(in crate::kernels::x86) fn encode_tile(tile: Encode<'_>) -> Result<(), usize> {
    match tile.quantizer.bits() {
        2 => encode::<2>(tile),
        3 => encode::<3>(tile),
        4 => encode::<4>(tile),
        5 => encode::<5>(tile),
        6 => encode::<6>(tile),
        7 => encode::<7>(tile),
        _ => encode::<8>(tile),
    }
}

#[target_feature(enable = "avx2,bmi2")]
fn encode<const BITS: usize>(tile: Encode<'_>) -> Result<(), usize> {
    let Encode { quantizer, stream, chunk, x, scales, codes } = tile;
    let block = quantizer.block();
    let span = SPAN.div_ceil(quantizer.unit()) * quantizer.unit();
    let philox = Philox::new(stream);
    let spans =
        x.chunks(span).zip(scales.chunks_mut(span / block * 4)).zip(codes.chunks_mut(span / 8 * BITS));
    for (s, ((x, scales), codes)) in spans.enumerate() {
        for (b, (values, scale)) in x.chunks(block).zip(scales.chunks_exact_mut(4)).enumerate() {
            let found = block_scale(quantizer, values, largest(values), |x| l2_norm(x));
            let found = found.map_err(|at| s * span + b * block + at)?;
            scale.copy_from_slice(&found.to_le_bytes());
        }
        let mut multipliers = Multipliers::new(quantizer, scales);
        let mut counter = chunk.wrapping_add((s * span / CHUNK) as u32).wrapping_mul(COUNTERS);
        let (chunks, rest) = x.as_chunks::<CHUNK>();
        let mut packed = codes.chunks_mut(CHUNK / 8 * BITS);
        for (chunk, packed) in chunks.iter().zip(&mut packed) {
            for line in 0..CHUNK * 4 / 64 {
                prefetch(chunk, AHEAD + line * 64);
            }
            pack::<BITS>(symbols::<BITS>(chunk, &multipliers.next(), &words(&philox, counter)), packed);
            counter = counter.wrapping_add(COUNTERS);
        }
        if let (false, Some(packed)) = (rest.is_empty(), packed.next()) {
            let mut full = [0.0; CHUNK];
            full[..rest.len()].copy_from_slice(rest);
            let vectors = symbols::<BITS>(&full, &multipliers.next(), &words(&philox, counter));
            let mut symbols = [0; CHUNK];
            let (groups, _) = symbols.as_chunks_mut();
            groups.iter_mut().zip(vectors).for_each(|(group, bytes)| store_bytes(group, in_order(bytes)));
            symbols[rest.len()..].fill(0); // the stream's unused bits are zero
            let mut bytes = [0; CHUNK];
            portable::pack::<BITS>(&symbols, &mut bytes);
            packed.copy_from_slice(&bytes[..packed.len()]);
        }
    }
    Ok(())
}

/// The words of a chunk: of its first 8 counters and of its last.
#[inline]
#[target_feature(enable = "avx2")]
fn words(philox: &Philox, counter: u32) -> [[__m256i; 4]; 2] {
    [philox.words(counter), philox.words(counter.wrapping_add(LANES as u32))]
}

/// Largest magnitude as bits.
#[inline]
#[target_feature(enable = "avx2")]
fn largest(x: &[f32]) -> u32 {
    const WAYS: usize = 4;
    let magnitude =
        |row: &[f32; LANES]| _mm256_and_si256(_mm256_castps_si256(load_f32(row)), set1(0x7FFF_FFFF));
    let mut most = [_mm256_setzero_si256(); WAYS];
    let (rows, rest) = x.as_chunks();
    let (lines, rows) = rows.as_chunks::<WAYS>();
    for line in lines {
        for (most, row) in most.iter_mut().zip(line) {
            *most = _mm256_max_epi32(*most, magnitude(row));
        }
    }
    for row in rows.iter().copied().chain(padded(rest)) {
        most[0] = _mm256_max_epi32(most[0], magnitude(&row));
    }
    let [a, b, c, d] = most;
    let eight = _mm256_max_epi32(_mm256_max_epi32(a, b), _mm256_max_epi32(c, d));
    let four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two))) as u32
}

/// The Euclidean norm, in the order of `portable::l2_norm`.
#[inline]
#[target_feature(enable = "avx2")]
fn l2_norm(x: &[f32]) -> f32 {
    let (rows, rest) = x.as_chunks::<{ 2 * LANES }>();
    let mut sums = [_mm256_setzero_pd(); 4];
    for row in rows.iter().copied().chain(padded(rest)) {
        let (halves, _) = row.as_chunks();
        for (sums, half) in sums.chunks_exact_mut(2).zip(halves) {
            let half = load_f32(half);
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(half));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(half));
            sums[0] = _mm256_add_pd(sums[0], _mm256_mul_pd(low, low));
            sums[1] = _mm256_add_pd(sums[1], _mm256_mul_pd(high, high));
        }
    }
    let [a, b, c, d] = sums;
    let four = _mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    root(_mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two)))
}

/// The symbols of a chunk.
#[inline]
#[target_feature(enable = "avx2")]
fn symbols<const BITS: usize>(
    x: &[f32; CHUNK],
    multipliers: &[f32; CHUNK / GROUP],
    words: &[[__m256i; 4]; 2],
) -> Symbols {
    let (rows, _) = x.as_chunks();
    std::array::from_fn(|pair| {
        // Two rows of 16 elements, whose random numbers are the two halves of the same words.
        let multiplier = _mm256_set1_ps(multipliers[pair]);
        let sums = |row: usize, half: usize| {
            let word = words[half][pair];
            let random = if row == 0 {
                _mm256_blend_epi16::<0b1010_1010>(word, _mm256_setzero_si256())
            } else {
                _mm256_srli_epi32::<16>(word)
            };
            let x = load_f32(&rows[pair * 4 + row * 2 + half]);
            _mm256_add_epi32(fixed::<BITS>(_mm256_mul_ps(x, multiplier)), random)
        };
        // The symbol is the third byte of each sum; those of both halves, two bytes each, in turn.
        let third = |row| {
            let (a, b) = (sums(row, 0), sums(row, 1));
            let both = _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(a), b);
            _mm256_and_si256(both, _mm256_set1_epi16(0xFF))
        };
        _mm256_shuffle_epi8(_mm256_packus_epi16(third(0), third(1)), load_bytes(&APART))
    })
}

/// V + L * 65536, with bits of a float above the 23rd for less than 8 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn fixed<const BITS: usize>(scaled: __m256) -> __m256i {
    let levels = (1 << (BITS - 1)) - 1;
    if BITS < 8 {
        // Adding 2^23 rounds half to even. The product exceeds L * 2^16 by less than its 2^-23rd part, which is
        // below 1/2: no clamp is needed.
        _mm256_castps_si256(_mm256_add_ps(scaled, _mm256_set1_ps((8_388_608 + (levels << 16)) as f32)))
    } else {
        // With 127 levels it may exceed by 1, and the sum has 24 bits.
        let limit = (levels << 16) as f32;
        let scaled = _mm256_min_ps(scaled, _mm256_set1_ps(limit));
        let scaled = _mm256_max_ps(scaled, _mm256_set1_ps(-limit));
        _mm256_add_epi32(_mm256_cvtps_epi32(scaled), set1(levels << 16))
    }
}

/// The even ones of each 8 bytes, then the odd ones.
const APART: [u8; 32] = {
    let mut index = [0; 32];
    let mut at = 0;
    while at < 32 {
        index[at] = (at % 16 / 8 * 8 + at % 4 * 2 + at / 4 % 2) as u8;
        at += 1;
    }
    index
};
