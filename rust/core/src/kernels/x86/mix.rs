//! Mixing with vectors: the loop of `portable`, with the sums of a strip in registers.
//!
//! The compiler vectorises the portable loop too, but keeps its sums in memory: half the speed.

use std::arch::x86_64::*;

use crate::kernels::{Mix, STRIP, portable, prefetch};

macro_rules! mix_row {
    ($name:ident: $type:ident x $lanes:literal, $vector:ident, $feature:literal,
     $load:ident $store:ident $set1:ident $add:ident $sub:ident $mul:ident, $sums:literal sums) => {
        #[target_feature(enable = $feature)]
        pub(super) fn $name(piece: Mix<'_, $type>) {
            const LANES: usize = $lanes;
            /// Vectors whose sums are in registers at a time.
            const SUMS: usize = $sums;

            #[inline]
            #[target_feature(enable = $feature)]
            fn load(from: &[$type; LANES]) -> $vector {
                // SAFETY: reads the numbers of `from`; no alignment is needed.
                unsafe { $load(from.as_ptr()) }
            }

            let Mix { x, mut z, slot, own, weights, slots, gamma, mut ahead } = piece;
            let (strips, rest) = x.as_chunks_mut::<STRIP>();
            for x in strips {
                prefetch(&ahead[..ahead.len().min(STRIP)]);
                ahead = ahead.get(STRIP..).unwrap_or(&[]);
                let row = |at: u32| z.get(at as usize * slot..).and_then(<[$type]>::first_chunk::<STRIP>);
                let Some(own) = row(own) else { return };
                let (x, _) = x.as_chunks_mut::<LANES>();
                let (own, _) = own.as_chunks::<LANES>();
                for (g, x) in x.chunks_exact_mut(SUMS).enumerate() {
                    let mut held = [$set1(0.0); SUMS]; // read once, which the compiler does not see
                    for (held, own) in held.iter_mut().zip(&own[g * SUMS..]) {
                        *held = load(own);
                    }
                    let mut sums = [$set1(0.0); SUMS];
                    for (&weight, &at) in weights.iter().zip(slots) {
                        let Some(other) = row(at) else { return };
                        let (weight, (other, _)) = ($set1(weight), other.as_chunks::<LANES>());
                        let other = &other[g * SUMS..][..SUMS];
                        for v in 0..SUMS {
                            sums[v] = $add(sums[v], $mul(weight, $sub(load(&other[v]), held[v])));
                        }
                    }
                    let gamma = $set1(gamma);
                    for (x, sum) in x.iter_mut().zip(sums) {
                        let moved = $add(load(x), $mul(gamma, sum));
                        // SAFETY: writes the numbers of `x`; no alignment is needed.
                        unsafe { $store(x.as_mut_ptr(), moved) }
                    }
                }
                z = z.get(STRIP..).unwrap_or(&[]);
            }
            portable::mix_row(Mix { x: rest, z, slot, own, weights, slots, gamma, ahead });
        }
    };
}

mix_row!(avx2_f32: f32 x 8, __m256, "avx2",
    _mm256_loadu_ps _mm256_storeu_ps _mm256_set1_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps, 8 sums);
mix_row!(avx2_f64: f64 x 4, __m256d, "avx2",
    _mm256_loadu_pd _mm256_storeu_pd _mm256_set1_pd _mm256_add_pd _mm256_sub_pd _mm256_mul_pd, 8 sums);
mix_row!(avx512_f32: f32 x 16, __m512, "avx512f",
    _mm512_loadu_ps _mm512_storeu_ps _mm512_set1_ps _mm512_add_ps _mm512_sub_ps _mm512_mul_ps, 4 sums);
mix_row!(avx512_f64: f64 x 8, __m512d, "avx512f",
    _mm512_loadu_pd _mm512_storeu_pd _mm512_set1_pd _mm512_add_pd _mm512_sub_pd _mm512_mul_pd, 8 sums);
