//! What several schemes check of a payload.

use crate::error::Fault;

/// Checks that scales (f32, little endian) are finite, not negative and below `limit`.
pub(super) fn check_scales(scales: &[u8], limit: f32) -> Result<(), Fault> {
    // Also refuses a negative number: its bits are above those of every positive one.
    let bad =
        |bytes: &[u8]| bytes.first_chunk().is_none_or(|&bytes| u32::from_le_bytes(bytes) >= limit.to_bits());
    match scales.chunks_exact(4).position(bad) {
        Some(block) => Err(Fault::Scale { block }),
        None => Ok(()),
    }
}

/// Checks that the bits after the first `n` are zero, so that a message has one form only.
pub(super) fn check_padding(bits: &[u8], n: usize) -> Result<(), Fault> {
    match bits.last() {
        Some(last) if !n.is_multiple_of(8) && last >> (n % 8) != 0 => Err(Fault::Padding),
        _ => Ok(()),
    }
}
