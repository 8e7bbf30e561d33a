//! AVX-512: the same arithmetic as `portable`, arranged for 16 lanes.

mod decode;
mod encode;

use std::arch::x86_64::*;

pub(super) use decode::decode_tile;
pub(super) use encode::encode_tile;

const LANES: usize = 16;
const GROUP: usize = 32;
/// Bytes between what is worked on and what is asked for from memory.
const AHEAD: usize = 4096;

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(x: &[f32; LANES]) -> __m512 {
    // SAFETY: reads the 64 bytes of `x`; no alignment is needed.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_f32(out: &mut [f32; LANES], value: __m512) {
    // SAFETY: writes the 64 bytes of `out`; no alignment is needed.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), value) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_bytes(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: reads the 64 bytes; no alignment is needed.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Writes the first bytes of `value`, as many as `out` has, at most 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_bytes(out: &mut [u8], value: __m512i) {
    let mask = u64::MAX >> (64 - out.len().clamp(1, 64));
    if !out.is_empty() {
        // SAFETY: writes the bytes of the mask, the first `out.len()`; no alignment is needed.
        unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), mask, value) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn set1(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
}
