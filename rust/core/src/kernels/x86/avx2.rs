//! AVX2: the same arithmetic as `portable`, arranged for 8 lanes and 16 registers.

mod decode;
mod encode;
mod pack;
mod philox;

use std::arch::x86_64::*;

pub(super) use decode::decode_tile;
pub(super) use encode::encode_tile;

const LANES: usize = 8;
const GROUP: usize = 32;
/// Bytes between what is worked on and what is asked for from memory.
const AHEAD: usize = 4096;

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(x: &[f32; LANES]) -> __m256 {
    // SAFETY: reads the 32 bytes of `x`; no alignment is needed.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_f32(out: &mut [f32; LANES], value: __m256) {
    // SAFETY: writes the 32 bytes of `out`; no alignment is needed.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: reads the 32 bytes; no alignment is needed.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_bytes(out: &mut [u8; 32], value: __m256i) {
    // SAFETY: writes the 32 bytes of `out`; no alignment is needed.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn set1(word: u32) -> __m256i {
    _mm256_set1_epi32(word as i32)
}
