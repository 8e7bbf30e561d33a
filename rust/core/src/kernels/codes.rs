//! Search of a stream of codes for one that its codec does not have.
//!
//! The body is the specification and, recompiled, every level's code.

use super::{Body, Level};

/// Codes that stand side by side in a stream of bits, the lowest first.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a> {
    /// Bits of one code, 2 to 8.
    pub bits: u32,
    /// The largest code that there is; it has the highest of the bits.
    pub most: u32,
    pub bytes: &'a [u8],
}

impl Body for Codes<'_> {
    type Output = bool;
    #[inline(always)]
    fn run(self) -> bool {
        match self.bits {
            2 => any_beyond::<2>(self),
            3 => any_beyond::<3>(self),
            4 => any_beyond::<4>(self),
            5 => any_beyond::<5>(self),
            6 => any_beyond::<6>(self),
            7 => any_beyond::<7>(self),
            _ => any_beyond::<8>(self),
        }
    }
}

impl Codes<'_> {
    /// Index of the first code above the largest one.
    pub(crate) fn first_beyond(self, level: Level) -> Option<usize> {
        // Without a branch per code the search of good codes is vectorised.
        if !level.run(self) {
            return None;
        }
        let bits = self.bits as usize;
        (0..self.bytes.len() * 8 / bits).find(|code| {
            let (byte, shift) = (code * bits / 8, code * bits % 8);
            let two = [0, 1].map(|next| self.bytes.get(byte + next).copied().unwrap_or(0));
            u32::from(u16::from_le_bytes(two)) >> shift & ((1 << bits) - 1) > self.most
        })
    }
}

/// Whether a code is above the largest one.
#[inline(always)]
fn any_beyond<const BITS: usize>(codes: Codes<'_>) -> bool {
    // As many bytes of a word as hold whole codes.
    let width = 8 / BITS * BITS;
    let repeated = |code: u64| (0..8 * width).step_by(BITS).fold(0, |word, at| word | code << at);
    let (high, low) = (repeated(1 << (BITS - 1)), repeated((1 << (BITS - 1)) - 1));
    // With this added a code above the largest one no longer fits its bits. The largest one has the highest bit, so a
    // code that does not fit has it, too, and the others carry into it; no code carries into the next one.
    let room = repeated((1 << BITS) - 1 - u64::from(codes.most));
    let beyond = |word: [u8; 8]| {
        let word = u64::from_le_bytes(word);
        word & ((word & low) + room) & high
    };
    let mut found = 0;
    let mut rest = codes.bytes;
    if width == 8 {
        let (words, last) = rest.as_chunks();
        found = words.iter().fold(0, |found, &word| found | beyond(word));
        rest = last;
    }
    while let Some(&word) = rest.first_chunk() {
        found |= beyond(word);
        rest = &rest[width..];
    }
    for last in rest.chunks(width) {
        let mut word = [0; 8];
        word[..last.len()].copy_from_slice(last);
        found |= beyond(word);
    }
    found != 0
}
