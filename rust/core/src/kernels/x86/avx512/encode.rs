//! The quantizer with AVX-512.
//!
//! Philox keeps the counters of even and odd lanes in two vectors of 64-bit lanes, as `vpmuludq` wants its
//! factors and leaves its products: a round is then two multiplications, two shifts and two exclusive ors
//! per vector, and what is above bit 31 of a word is never looked at.

use std::arch::x86_64::*;

use super::{AHEAD, GROUP, LANES, load_bytes, load_f32, set1, store_bytes};
use crate::kernels::Encode;
use crate::kernels::portable::{block_scale, root};
use crate::kernels::x86::blocks::{Multipliers, padded};
use crate::kernels::x86::prefetch;
use crate::philox::{CHUNK, MULTIPLIERS, ROUNDS, Stream, WEYL};

const ROWS: usize = CHUNK / LANES;
/// Elements whose scales are found before their codes: they are then still in the first-level cache.
const SPAN: usize = 512;
/// Takes 2^15 from both halves of a word, as `vpdpwssd` wants signed numbers.
const SIGNS: u32 = 0x8000_8000;
const ODD: __mmask16 = 0xAAAA;

/// What the words of all chunks of a tile have in common.
struct Philox {
    keys: [[u32; 2]; ROUNDS],
    words: [u32; 3],
}

impl Philox {
    fn new(stream: &Stream) -> Self {
        let mut keys = [stream.key; ROUNDS];
        for round in 1..ROUNDS {
            keys[round] = std::array::from_fn(|k| keys[round - 1][k].wrapping_add(WEYL[k]));
        }
        Self { keys, words: stream.words }
    }

    /// For `CHUNKS` chunks the four words of their 16 counters, of which the first is `first`, with [`SIGNS`]
    /// flipped. The rounds of one chunk wait for each other: two at a time keep the multipliers busy.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn words<const CHUNKS: usize>(&self, first: u32) -> [[__m512i; 4]; CHUNKS] {
        let multipliers = MULTIPLIERS.map(|m| _mm512_set1_epi64(i64::from(m)));
        let even = _mm512_add_epi32(
            _mm512_set1_epi32(first as i32),
            _mm512_setr_epi32(0, 0, 2, 0, 4, 0, 6, 0, 8, 0, 10, 0, 12, 0, 14, 0),
        );
        let counters: [[__m512i; 2]; CHUNKS] = std::array::from_fn(|chunk| {
            std::array::from_fn(|odd| _mm512_add_epi32(even, set1((chunk * LANES + odd) as u32)))
        });

        // Of the first two rounds, half has the same factors in all lanes.
        let [w1, w2, w3] = self.words;
        let [k, l] = [self.keys[0], self.keys[1]];
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(w2);
        let (a, b) = ((p1 >> 32) as u32 ^ w1 ^ k[0], p1 as u32);
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(a);
        let mut state = counters.map(|pair| {
            pair.map(|counter| {
                let product = _mm512_mul_epu32(counter, multipliers[0]);
                let c2 = _mm512_xor_si512(_mm512_srli_epi64::<32>(product), set1(w3 ^ k[1]));
                let c3 = product;
                let product = _mm512_mul_epu32(c2, multipliers[1]);
                let c0 = _mm512_xor_si512(_mm512_srli_epi64::<32>(product), set1(b ^ l[0]));
                [c0, product, _mm512_xor_si512(c3, set1((p0 >> 32) as u32 ^ l[1])), set1(p0 as u32)]
            })
        });
        for key in &self.keys[2..ROUNDS - 1] {
            let [k0, k1] = key.map(|k| set1(k));
            state = state.map(|pair| {
                pair.map(|[c0, c1, c2, c3]| {
                    let p0 = _mm512_mul_epu32(c0, multipliers[0]);
                    let p1 = _mm512_mul_epu32(c2, multipliers[1]);
                    [
                        xor3(_mm512_srli_epi64::<32>(p1), c1, k0),
                        p1,
                        xor3(_mm512_srli_epi64::<32>(p0), c3, k1),
                        p0,
                    ]
                })
            });
        }
        // The last round merges the lanes on the way.
        let key = self.keys[ROUNDS - 1].map(|k| set1(k ^ SIGNS));
        state.map(|[even, odd]| {
            let products = |word: usize, by: usize| {
                [even[word], odd[word]].map(|c| _mm512_mul_epu32(c, multipliers[by]))
            };
            let (p0, p1) = (products(0, 0), products(2, 1));
            let low = |[even, odd]: [__m512i; 2]| _mm512_mask_shuffle_epi32::<0b10_10_00_00>(even, ODD, odd);
            let high =
                |[even, odd]: [__m512i; 2]| _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, !ODD, even);
            [
                xor3(high(p1), low([even[1], odd[1]]), key[0]),
                _mm512_xor_si512(low(p1), set1(SIGNS)),
                xor3(high(p0), low([even[3], odd[3]]), key[1]),
                _mm512_xor_si512(low(p0), set1(SIGNS)),
            ]
        })
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,bmi2")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,bmi2")]
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
        let mut counter = chunk.wrapping_add((s * span / CHUNK) as u32).wrapping_mul(LANES as u32);
        let (chunks, rest) = x.as_chunks::<CHUNK>();
        let mut packed = codes.chunks_mut(CHUNK / 8 * BITS);
        let (pairs, last) = chunks.as_chunks::<2>();
        for pair in pairs {
            let words = philox.words::<2>(counter);
            for ((chunk, words), packed) in pair.iter().zip(&words).zip(&mut packed) {
                for line in 0..CHUNK * 4 / 64 {
                    prefetch(chunk, AHEAD + line * 64);
                }
                pack::<BITS>(symbols::<BITS>(chunk, &multipliers.next(), words), packed);
            }
            counter = counter.wrapping_add(2 * LANES as u32);
        }
        for (chunk, packed) in last.iter().zip(&mut packed) {
            let [words] = philox.words(counter);
            pack::<BITS>(symbols::<BITS>(chunk, &multipliers.next(), &words), packed);
            counter = counter.wrapping_add(LANES as u32);
        }
        if let (false, Some(packed)) = (rest.is_empty(), packed.next()) {
            let mut full = [0.0; CHUNK];
            full[..rest.len()].copy_from_slice(rest);
            let [low, high] = symbols::<BITS>(&full, &multipliers.next(), &philox.words::<1>(counter)[0]);
            let kept = |from: usize| match rest.len().saturating_sub(from) {
                0 => 0,
                kept => u64::MAX >> (64 - kept.min(64)),
            };
            // The stream's unused bits are zero.
            let symbols = [_mm512_maskz_mov_epi8(kept(0), low), _mm512_maskz_mov_epi8(kept(64), high)];
            let mut bytes = [0; CHUNK];
            pack::<BITS>(symbols, &mut bytes[..CHUNK / 8 * BITS]);
            packed.copy_from_slice(&bytes[..packed.len()]);
        }
    }
    Ok(())
}

/// Largest magnitude as bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest(x: &[f32]) -> u32 {
    const WAYS: usize = 4;
    let magnitude = set1(0x7FFF_FFFF);
    let mut most = [_mm512_setzero_si512(); WAYS];
    let (rows, rest) = x.as_chunks::<LANES>();
    let (lines, rows) = rows.as_chunks::<WAYS>();
    for line in lines {
        for (most, row) in most.iter_mut().zip(line) {
            *most = _mm512_max_epi32(*most, _mm512_and_si512(_mm512_castps_si512(load_f32(row)), magnitude));
        }
    }
    for row in rows.iter().copied().chain(padded(rest)) {
        most[0] = _mm512_max_epi32(most[0], _mm512_and_si512(_mm512_castps_si512(load_f32(&row)), magnitude));
    }
    let [a, b, c, d] = most;
    _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d))) as u32
}

/// The Euclidean norm, in the order of `portable::l2_norm`.
#[inline]
#[target_feature(enable = "avx512f")]
fn l2_norm(x: &[f32]) -> f32 {
    let (rows, rest) = x.as_chunks::<LANES>();
    let (mut low, mut high) = (_mm512_setzero_pd(), _mm512_setzero_pd());
    for row in rows.iter().copied().chain(padded(rest)) {
        let row = _mm512_castps_pd(load_f32(&row));
        let half = |at: __m256d| _mm512_cvtps_pd(_mm256_castpd_ps(at));
        let (a, b) = (half(_mm512_castpd512_pd256(row)), half(_mm512_extractf64x4_pd::<1>(row)));
        low = _mm512_add_pd(low, _mm512_mul_pd(a, a));
        high = _mm512_add_pd(high, _mm512_mul_pd(b, b));
    }
    let eight = _mm512_add_pd(low, high);
    let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    root(_mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two)))
}

/// The symbols of a chunk, one a byte, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vbmi,avx512vnni")]
fn symbols<const BITS: usize>(
    x: &[f32; CHUNK],
    multipliers: &[f32; CHUNK / GROUP],
    words: &[__m512i; 4],
) -> [__m512i; 2] {
    let levels = (1 << (BITS - 1)) - 1;
    let (rows, _) = x.as_chunks();
    let sums: [__m512i; ROWS] = std::array::from_fn(|row| {
        let scaled = _mm512_mul_ps(load_f32(&rows[row]), _mm512_set1_ps(multipliers[row / 2]));
        // The half of the words that belongs to this row, as a signed number: r - 2^15.
        let half = set1(if row % 2 == 0 { 1 } else { 1 << 16 });
        let fixed = if BITS < 8 {
            // Adding 2^23 rounds half to even; what is added to it gives the sum L * 2^16 + 2^15. The
            // product exceeds L * 2^16 by less than its 2^-23rd part, which is below 1/2: no clamp is needed.
            let offset = (8_388_608 + (levels << 16) + (1 << 15)) as f32;
            _mm512_castps_si512(_mm512_add_ps(scaled, _mm512_set1_ps(offset)))
        } else {
            // With 127 levels it may exceed by 1, and the sum has 25 bits.
            let limit = _mm512_set1_ps((levels << 16) as f32);
            let fixed = _mm512_cvtps_epi32(_mm512_range_ps::<SMALLER_MAGNITUDE>(scaled, limit));
            _mm512_add_epi32(fixed, set1((levels << 16) + (1 << 15)))
        };
        _mm512_dpwssd_epi32(fixed, words[row / 2], half)
    });
    let index = load_bytes(&THIRD_BYTES);
    std::array::from_fn(|half| {
        let [a, b, c, d] = std::array::from_fn(|row| sums[half * 4 + row]);
        let low = _mm512_permutex2var_epi8(a, index, b);
        let high = _mm512_permutex2var_epi8(c, index, d);
        _mm512_mask_blend_epi64(0xF0, low, high)
    })
}

/// Of two vectors of 16 words, the third byte of each, twice: the integer part of the fixed-point numbers.
const THIRD_BYTES: [u8; 64] = {
    let mut index = [0; 64];
    let mut at = 0;
    while at < 64 {
        index[at] = (at % 32 * 4 + 2) as u8;
        at += 1;
    }
    index
};

/// Packs 128 symbols into a stream of `BITS` bits each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack<const BITS: usize>(symbols: [__m512i; 2], out: &mut [u8]) {
    // Neighbours move together, as in `portable::pack`.
    let pairs = symbols.map(|bytes| _mm512_maddubs_epi16(_mm512_set1_epi16((1 << BITS << 8) | 1), bytes));
    match BITS {
        8 => {
            let (low, high) = out.split_at_mut(64);
            store_bytes(low, symbols[0]);
            store_bytes(high, symbols[1]);
        }
        4 => store_bytes(out, _mm512_permutex2var_epi8(pairs[0], load_bytes(&EVEN_BYTES), pairs[1])),
        _ => {
            for (pairs, out) in pairs.into_iter().zip(out.chunks_exact_mut(8 * BITS)) {
                let fours = _mm512_madd_epi16(pairs, set1(1 | 1 << (2 * BITS) << 16));
                let moved = _mm512_srl_epi64(fours, _mm_cvtsi32_si128(32 - 4 * BITS as i32));
                let low = _mm512_set1_epi64((1 << (4 * BITS)) - 1);
                let eights = _mm512_ternarylogic_epi64::<SELECT>(low, fours, moved);
                store_bytes(out, _mm512_permutexvar_epi8(load_bytes(&first_bytes::<BITS>()), eights));
            }
        }
    }
}

/// Ternary logic: the bits of the second where the first is set, else those of the third.
const SELECT: i32 = 0xCA;
/// The smaller magnitude, with the sign of the first.
const SMALLER_MAGNITUDE: i32 = 0b0010;

const EVEN_BYTES: [u8; 64] = {
    let mut index = [0; 64];
    let mut at = 0;
    while at < 64 {
        index[at] = (at * 2) as u8;
        at += 1;
    }
    index
};

/// The first `BITS` bytes of every 8.
const fn first_bytes<const BITS: usize>() -> [u8; 64] {
    let mut index = [0; 64];
    let mut at = 0;
    while at < 8 * BITS {
        index[at] = (at / BITS * 8 + at % BITS) as u8;
        at += 1;
    }
    index
}
