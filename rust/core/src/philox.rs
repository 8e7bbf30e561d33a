//! Philox4x32-10: random numbers as a pure function of a counter and a key.
//!
//! Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11. What a draw is used
//! for (its [`Stream`]) and which element it belongs to are the counter, so no draw depends on another one.

pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
pub(crate) const ROUNDS: usize = 10;

/// Elements whose random numbers come from one group of 16 counters.
pub(crate) const CHUNK: usize = 128;

// What a stream is for: the low byte of word 1 of the counter.
const QUANTIZER: u32 = 0;
const DROPOUT: u32 = 1;
const NONCE: u32 = 2;
const SELECTION: u32 = 3;
const ROTATION: u32 = 4;
const SUBSPACE: u32 = 5;

/// The ten-round Philox of four 32-bit words, the reference form.
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox_lanes([[counter[0]], [counter[1]], [counter[2]], [counter[3]]], key).map(|[word]| word)
}

/// Philox of `N` counters side by side: word `w` of counter `l` is `counters[w][l]`, in and out.
#[inline(always)]
pub(crate) fn philox_lanes<const N: usize>(counters: [[u32; N]; 4], key: [u32; 2]) -> [[u32; N]; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counters;
    let [mut k0, mut k1] = key;
    for _ in 0..ROUNDS {
        for l in 0..N {
            let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c0[l]);
            let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c2[l]);
            c0[l] = (p1 >> 32) as u32 ^ c1[l] ^ k0;
            c1[l] = p1 as u32;
            c2[l] = (p0 >> 32) as u32 ^ c3[l] ^ k1;
            c3[l] = p0 as u32;
        }
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

/// What a sequence of draws is for: everything of the counter but the element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The key: low and high half of the seed.
    pub(crate) key: [u32; 2],
    /// Words 1 to 3 of the counter; word 0 is the block of elements.
    pub(crate) words: [u32; 3],
}

impl Stream {
    /// The draws that round the message of `client` in `round`: counter `[block, 0, client, round]`.
    #[must_use]
    pub fn quantizer(seed: u64, round: u32, client: u32) -> Self {
        Self { key: halves(seed), words: [QUANTIZER, client, round] }
    }

    /// The draws for one of several parts of a message: counter `[block, part << 8, client, round]`.
    #[must_use]
    pub(crate) fn part(&self, part: u32) -> Self {
        Self { words: [self.words[0] | part << 8, self.words[1], self.words[2]], ..*self }
    }

    /// 64 bits of a message of its own, drawn from the counter `[0, 2, client, round]`: a message that carries them
    /// says all that a decoder must draw again.
    #[must_use]
    pub(crate) fn nonce(&self) -> u64 {
        let [low, high, ..] = philox4x32_10([0, NONCE, self.words[1], self.words[2]], self.key);
        u64::from(high) << 32 | u64::from(low)
    }

    /// The draws by which a message of this nonce selects its numbers: counter `[block, 3, 0, 0]`.
    #[must_use]
    pub(crate) fn selection(nonce: u64) -> Self {
        Self { key: halves(nonce), words: [SELECTION, 0, 0] }
    }

    /// The draws of the signs of a message of this nonce: counter `[block, 4, round of the rotation, 0]`.
    #[must_use]
    pub(crate) fn rotation(nonce: u64) -> Self {
        Self { key: halves(nonce), words: [ROTATION, 0, 0] }
    }

    /// The same draws for another round of the rotation.
    #[inline(always)]
    pub(crate) fn of_rotation(&self, round: u32) -> Self {
        Self { words: [self.words[0], round, self.words[2]], ..*self }
    }

    /// The draws of the first subspace of a matrix of this message: counter `[block, 5 | matrix << 8, client, round]`.
    #[must_use]
    pub(crate) fn subspace(&self, matrix: u32) -> Self {
        Self { key: self.key, words: [SUBSPACE | matrix << 8, self.words[1], self.words[2]] }
    }

    /// The draws of one dropout mask: counter `[block, 1 | sample << 8, client, step]`.
    #[must_use]
    pub(crate) fn dropout(seed: u64, step: u32, client: u32, sample: u32) -> Self {
        Self { key: halves(seed), words: [DROPOUT | sample << 8, client, step] }
    }
}

fn halves(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_purpose_draws_by_the_counter_that_it_says() {
        let message = Stream::quantizer(7 | 9 << 32, 5, 6);
        assert_eq!((message.key, message.words), ([7, 9], [0, 6, 5]));
        assert_eq!((message.part(3).key, message.part(3).words), ([7, 9], [3 << 8, 6, 5]));
        assert_eq!((message.subspace(3).key, message.subspace(3).words), ([7, 9], [5 | 3 << 8, 6, 5]));
        let [low, high, ..] = philox4x32_10([0, 2, 6, 5], [7, 9]);
        assert_eq!(message.nonce(), u64::from(high) << 32 | u64::from(low));
        let nonce = 11 | 13 << 32;
        assert_eq!((Stream::selection(nonce).key, Stream::selection(nonce).words), ([11, 13], [3, 0, 0]));
        let rotation = Stream::rotation(nonce).of_rotation(1);
        assert_eq!((rotation.key, rotation.words), ([11, 13], [4, 1, 0]));
        let dropout = Stream::dropout(7 | 9 << 32, 5, 6, 3);
        assert_eq!((dropout.key, dropout.words), ([7, 9], [1 | 3 << 8, 6, 5]));
    }

    #[test]
    fn no_two_purposes_share_their_draws() {
        let mut streams = Vec::new();
        for (seed, round, client) in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)] {
            let message = Stream::quantizer(seed, round, client);
            streams.push(message);
            streams.extend((1..9).map(|part| message.part(part)));
            streams.extend((0..9).map(|matrix| message.subspace(matrix)));
            streams.extend((0..9).map(|sample| Stream::dropout(seed, round, client, sample)));
        }
        for nonce in [1, 2] {
            streams.push(Stream::selection(nonce));
            streams.extend((0..2).map(|round| Stream::rotation(nonce).of_rotation(round)));
        }
        let distinct: HashSet<_> = streams.iter().map(|stream| (stream.key, stream.words)).collect();
        assert_eq!(distinct.len(), streams.len());
    }
}
