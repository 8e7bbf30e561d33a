//! The levels of x86-64: proofs that the CPU has the instructions, and the only unsafe code of the crate.
#![allow(unsafe_code)]

mod avx2;
mod avx512;
mod blocks;
mod mix;
mod product;

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use super::{Body, Decode, Encode, Mix, Product};

macro_rules! level {
    ($(#[$doc:meta])* $name:ident: $($feature:tt)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            /// Returns the proof, if this CPU has the instructions.
            pub(super) fn new() -> Option<Self> {
                ($(is_x86_feature_detected!($feature))&&*).then_some(Self(()))
            }

            /// Runs `body` compiled for this level.
            #[inline(always)]
            pub(super) fn run<B: Body>(self, body: B) -> B::Output {
                $(#[target_feature(enable = $feature)])*
                fn run<B: Body>(body: B) -> B::Output {
                    body.run()
                }
                // SAFETY: `new`, the only constructor, found the instructions.
                unsafe { run(body) }
            }
        }
    };
}

level! {
    /// Proof of AVX2 and FMA.
    Avx2: "avx2" "fma" "bmi2"
}

level! {
    /// Proof of AVX-512 with VBMI and VNNI, and FMA: Ice Lake, Zen 4 and later.
    Avx512: "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vbmi" "avx512vnni" "avx2" "fma" "bmi2"
}

macro_rules! kernels {
    ($($level:ident: $quantizer:ident $mix_f32:ident $mix_f64:ident)*) => { $(
        impl $level {
            pub(super) fn encode_tile(self, tile: Encode<'_>) -> Result<(), usize> {
                // SAFETY: `new`, the only constructor, found the instructions.
                unsafe { $quantizer::encode_tile(tile) }
            }

            pub(super) fn decode_tile(self, tile: Decode<'_>) {
                // SAFETY: `new`, the only constructor, found the instructions.
                unsafe { $quantizer::decode_tile(tile) }
            }

            pub(super) fn mix_f32(self, piece: Mix<'_, f32>) {
                // SAFETY: `new`, the only constructor, found the instructions.
                unsafe { mix::$mix_f32(piece) }
            }

            pub(super) fn mix_f64(self, piece: Mix<'_, f64>) {
                // SAFETY: `new`, the only constructor, found the instructions.
                unsafe { mix::$mix_f64(piece) }
            }
        }
    )* };
}
kernels!(Avx2: avx2 avx2_f32 avx2_f64 Avx512: avx512 avx512_f32 avx512_f64);

impl Avx2 {
    pub(super) fn product(self, product: Product<'_>) {
        // SAFETY: `new`, the only constructor, found the instructions.
        unsafe { product::avx2(product) }
    }
}

impl Avx512 {
    pub(super) fn product(self, product: Product<'_>) {
        // SAFETY: `new`, the only constructor, found the instructions, those of AVX2 too.
        unsafe {
            // Rows that fit into half of a vector gain nothing by the other half.
            if product.columns > 8 { product::avx512(product) } else { product::avx2(product) }
        }
    }
}

/// Asks for the cache line that is `distance` bytes after the start of `data`, which may be beyond its end.
#[inline(always)]
fn prefetch<T>(data: &[T], distance: usize) {
    let at = data.as_ptr().cast::<i8>().wrapping_add(distance);
    // SAFETY: a hint, of an instruction that every x86-64 has; it never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at) }
}

/// Asks for `data` to be brought to the second-level cache.
#[inline(always)]
pub(super) fn prefetch_all<T>(data: &[T]) {
    // From line to line, and the line of the last byte: `data` may begin within one.
    let last = size_of_val(data).checked_sub(1);
    for distance in (0..size_of_val(data)).step_by(64).chain(last) {
        let at = data.as_ptr().cast::<i8>().wrapping_add(distance);
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) }
    }
}
