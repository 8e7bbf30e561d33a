//! Philox with AVX2: even and odd lanes in two vectors of 64-bit lanes, as in AVX-512. More than two vectors at a time
//! do not fit the 16 registers.

use std::arch::x86_64::*;

use super::set1;
use crate::philox::{MULTIPLIERS, ROUNDS, Stream, WEYL};

/// What the words of all chunks of a tile have in common, in all lanes.
pub(super) struct Philox {
    /// Keys of the rounds after the first two.
    keys: [[__m256i; 2]; ROUNDS - 2],
    /// Of the first two rounds, half has the same factors in all lanes: what that half gives.
    first: [__m256i; 4],
}

impl Philox {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(stream: &Stream) -> Self {
        let mut keys = [stream.key; ROUNDS];
        for round in 1..ROUNDS {
            keys[round] = std::array::from_fn(|k| keys[round - 1][k].wrapping_add(WEYL[k]));
        }
        let ([w1, w2, w3], [k, l, ..]) = (stream.words, keys);
        let product = |word: u32, by: usize| {
            let product = u64::from(MULTIPLIERS[by]) * u64::from(word);
            ((product >> 32) as u32, product as u32)
        };
        let (high, low) = product(w2, 1);
        let (above, below) = product(high ^ w1 ^ k[0], 0);
        let first = [w3 ^ k[1], low ^ l[0], above ^ l[1], below].map(|word| set1(word));
        Self { keys: std::array::from_fn(|round| keys[round + 2].map(|key| set1(key))), first }
    }

    /// The four words of the 8 counters from `counter` on.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn words(&self, counter: u32) -> [__m256i; 4] {
        let multipliers = MULTIPLIERS.map(|m| _mm256_set1_epi64x(i64::from(m)));
        let even = _mm256_add_epi32(set1(counter), _mm256_setr_epi32(0, 0, 2, 0, 4, 0, 6, 0));
        let mut state = [even, _mm256_add_epi32(even, set1(1))].map(|counter| {
            let c3 = _mm256_mul_epu32(counter, multipliers[0]);
            let c2 = _mm256_xor_si256(_mm256_srli_epi64::<32>(c3), self.first[0]);
            let c1 = _mm256_mul_epu32(c2, multipliers[1]);
            let c0 = _mm256_xor_si256(_mm256_srli_epi64::<32>(c1), self.first[1]);
            [c0, c1, _mm256_xor_si256(c3, self.first[2]), self.first[3]]
        });
        let [rounds @ .., last] = &self.keys;
        for key in rounds {
            state = state.map(|[c0, c1, c2, c3]| {
                let p0 = _mm256_mul_epu32(c0, multipliers[0]);
                let p1 = _mm256_mul_epu32(c2, multipliers[1]);
                let c0 = _mm256_xor_si256(_mm256_srli_epi64::<32>(p1), _mm256_xor_si256(c1, key[0]));
                let c2 = _mm256_xor_si256(_mm256_srli_epi64::<32>(p0), _mm256_xor_si256(c3, key[1]));
                [c0, p1, c2, p0]
            });
        }
        // The last round merges the lanes on the way.
        let [even, odd] = state;
        let products =
            |word: usize, by: usize| [even[word], odd[word]].map(|c| _mm256_mul_epu32(c, multipliers[by]));
        let (p0, p1) = (products(0, 0), products(2, 1));
        let [c1, c3] = [1, 3].map(|word| low([even[word], odd[word]]));
        [
            _mm256_xor_si256(high(p1), _mm256_xor_si256(c1, last[0])),
            low(p1),
            _mm256_xor_si256(high(p0), _mm256_xor_si256(c3, last[1])),
            low(p0),
        ]
    }
}

/// The low words of even and odd lanes, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn low([even, odd]: [__m256i; 2]) -> __m256i {
    _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd))
}

/// The high words of even and odd lanes, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn high([even, odd]: [__m256i; 2]) -> __m256i {
    _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd)
}
