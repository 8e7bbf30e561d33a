//! Increasing indices in about 2 + log2(n / k) bits each, in a size that depends on n and k only
//! (Elias 1974, "Efficient storage and retrieval by content and address of static files"; Fano 1971).
//!
//! With l = floor(log2(n / k)), the low l bits of each index stand one after the other; the rest of it, h, is
//! told by the place of a one among the high bits: bit h + i is set for index i.

use super::check::check_padding;
use crate::error::Fault;

/// The sizes of a list of `k` indices below `n`.
#[derive(Clone, Copy)]
pub(super) struct EliasFano {
    n: usize,
    k: usize,
    low_bits: u32,
}

impl EliasFano {
    pub(super) fn new(n: usize, k: usize) -> Self {
        Self { n, k, low_bits: n.checked_div(k).map_or(0, usize::ilog2) }
    }

    /// Bytes of the low bits, which come first.
    fn low_bytes(&self) -> usize {
        (self.k as u64 * u64::from(self.low_bits)).div_ceil(8) as usize
    }

    fn high_len(&self) -> usize {
        if self.k == 0 { 0 } else { ((self.n - 1) >> self.low_bits) + self.k }
    }

    pub(super) fn bytes(&self) -> usize {
        self.low_bytes() + self.high_len().div_ceil(8)
    }

    /// Writes `k` increasing indices below `n` to `out`, which has [`EliasFano::bytes`].
    pub(super) fn write(&self, indices: impl Iterator<Item = usize>, out: &mut [u8]) {
        let (low, high) = out.split_at_mut(self.low_bytes());
        high.fill(0);
        let (mut bits, mut count, mut low) = (0_u64, 0, low.iter_mut());
        for (i, index) in indices.enumerate() {
            let at = (index >> self.low_bits) + i;
            high[at / 8] |= 1 << (at % 8);
            // At most 7 bits are left over and at most 35 are added.
            bits |= (index as u64 & ((1 << self.low_bits) - 1)) << count;
            count += self.low_bits;
            while count >= 8 {
                low.next().into_iter().for_each(|byte| *byte = bits as u8);
                (bits, count) = (bits >> 8, count - 8);
            }
        }
        low.for_each(|byte| *byte = bits as u8); // at most one
    }

    /// Checks that `bytes` is what [`EliasFano::write`] writes of some indices.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), Fault> {
        let (low, high) = bytes.split_at(self.low_bytes());
        let (low_len, high_len) = (self.k * self.low_bits as usize, self.high_len());
        check_padding(low, low_len)?;
        check_padding(high, high_len)?;
        let ones: usize = high.iter().map(|byte| byte.count_ones() as usize).sum();
        if ones != self.k {
            return Err(Fault::Indices);
        }
        let mut after = 0;
        for index in self.read(bytes) {
            if index < after || index >= self.n {
                return Err(Fault::Indices);
            }
            after = index + 1;
        }
        Ok(())
    }

    /// The indices.
    pub(super) fn read<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let (low, high) = bytes.split_at(self.low_bytes());
        let (low_bits, mask) = (self.low_bits, (1_u64 << self.low_bits) - 1);
        let ones = high.chunks(8).enumerate().flat_map(|(word, bytes)| {
            let mut full = [0; 8];
            full[..bytes.len()].copy_from_slice(bytes);
            let mut bits = u64::from_le_bytes(full);
            std::iter::from_fn(move || {
                let at = bits.trailing_zeros() as usize;
                let found = (bits != 0).then_some(word * 64 + at);
                bits &= bits.wrapping_sub(1);
                found
            })
        });
        let (mut bits, mut count, mut low) = (0_u64, 0, low.iter());
        ones.enumerate().map(move |(i, at)| {
            while count < low_bits {
                bits |= low.next().map_or(0, |&byte| u64::from(byte)) << count;
                count += 8;
            }
            let index = (at - i) << low_bits | (bits & mask) as usize;
            (bits, count) = (bits >> low_bits, count - low_bits);
            index
        })
    }
}
