//! Kernels of EDEN: a block is rotated, its numbers snapped to the centroids of a normal distribution.

use super::hadamard::{rotate, rotate_back};
use super::portable::{GROUP, lane_sum, max_magnitude_bits, pack, unpack};
use super::{Body, Level};
use crate::philox::{CHUNK, Stream};

/// Lloyd-Max centroids of the standard normal distribution for 1 to 4 bits, those above zero, ascending.
const CENTROIDS: [&[f32]; 4] = [
    &[0.797_884_6],
    &[0.452_780_04, 1.510_417_6],
    &[0.245_094_18, 0.756_005_3, 1.343_909_3, 2.151_945_7],
    &[
        0.128_395_03,
        0.388_048_3,
        0.656_759_1,
        0.942_340_5,
        1.256_231_2,
        1.618_046_4,
        2.069_017_2,
        2.732_589_6,
    ],
];
const MOST: usize = 16;

/// All centroids of a number of bits, ascending; those beyond 2^bits are not used.
const fn centroids(bits: usize) -> [f32; MOST] {
    let positive = CENTROIDS[bits - 1];
    let half = positive.len();
    let mut all = [0.0; MOST];
    let mut i = 0;
    while i < half {
        all[half + i] = positive[i];
        all[half - 1 - i] = -positive[i];
        i += 1;
    }
    all
}

/// Halfway between neighbouring centroids: what is above goes to the upper one.
const fn thresholds(bits: usize) -> [f32; MOST] {
    let all = centroids(bits);
    let mut between = [f32::INFINITY; MOST];
    let mut i = 0;
    while i + 1 < 1 << bits {
        between[i] = (all[i] + all[i + 1]) / 2.0;
        i += 1;
    }
    between
}

/// What encoder and decoder of a block have in common.
#[derive(Clone, Copy)]
pub(crate) struct Rotation<'a> {
    pub stream: &'a Stream,
    /// Index in the (padded) message of the block's first number.
    pub first: usize,
    pub rounds: u32,
    pub bits: u32,
}

/// A block to encode.
pub(crate) struct Snap<'a> {
    pub rotation: Rotation<'a>,
    /// Where all numbers are below this in magnitude, the block is sent as zeros.
    pub least: f32,
    /// A power of two of at least 32 numbers; rotated on return, unless all are below `least`.
    pub x: &'a mut [f32],
    /// Exactly the codes of `x`.
    pub codes: &'a mut [u8],
}

impl Body for Snap<'_> {
    type Output = f32;
    #[inline(always)]
    fn run(self) -> f32 {
        match self.rotation.bits {
            1 => snap::<1>(self),
            2 => snap::<2>(self),
            3 => snap::<3>(self),
            _ => snap::<4>(self),
        }
    }
}

/// Encodes one block; returns its scale, ||y||^2 / <c, y>, for which the decoded z has <z, x> = ||x||^2.
pub(crate) fn snap_block(level: Level, block: Snap<'_>) -> f32 {
    level.run(block)
}

#[inline(always)]
fn snap<const BITS: usize>(block: Snap<'_>) -> f32 {
    let Snap { rotation: Rotation { stream, first, rounds, .. }, least, x, codes } = block;
    if max_magnitude_bits(x) < least.to_bits() {
        // The scale is 0, so the codes do not matter, but have one form.
        codes.fill(0);
        return 0.0;
    }
    rotate(x, stream, first, rounds);
    let squares = lane_sum(x, |y| f64::from(y) * f64::from(y));
    let factor = ((x.len() as f64).sqrt() / squares.sqrt()) as f32;
    let (centroids, thresholds) = (const { centroids(BITS) }, const { thresholds(BITS) });
    let mut dot = 0.0;
    for (values, packed) in x.chunks(CHUNK).zip(codes.chunks_mut(CHUNK / 8 * BITS)) {
        let (mut symbols, mut products) = ([0; CHUNK], [0.0; CHUNK]);
        for ((symbol, product), &y) in symbols.iter_mut().zip(&mut products).zip(values) {
            let scaled = y * factor;
            let above = thresholds[..(1 << BITS) - 1].iter().map(|&t| u8::from(scaled > t)).sum::<u8>();
            *symbol = above;
            *product = centroids[usize::from(above) % MOST] * y;
        }
        dot += lane_sum(&products, f64::from);
        let mut bytes = [0; CHUNK];
        pack::<BITS>(&symbols, &mut bytes);
        packed.copy_from_slice(&bytes[..packed.len()]);
    }
    (squares / dot) as f32
}

/// A block to decode.
pub(crate) struct Unsnap<'a> {
    pub rotation: Rotation<'a>,
    pub scale: f32,
    pub codes: &'a [u8],
    /// The numbers of the block, a power of two of at least 32.
    pub out: &'a mut [f32],
}

impl Body for Unsnap<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        match self.rotation.bits {
            1 => unsnap::<1>(self),
            2 => unsnap::<2>(self),
            3 => unsnap::<3>(self),
            _ => unsnap::<4>(self),
        }
    }
}

/// Decodes one block.
pub(crate) fn unsnap_block(level: Level, block: Unsnap<'_>) {
    level.run(block);
}

#[inline(always)]
fn unsnap<const BITS: usize>(block: Unsnap<'_>) {
    let Unsnap { rotation: Rotation { stream, first, rounds, .. }, scale, codes, out } = block;
    let table = const { centroids(BITS) }.map(|c| c * scale);
    for (values, bytes) in out.chunks_mut(GROUP).zip(codes.chunks(GROUP / 8 * BITS)) {
        let mut full = [0; GROUP];
        full[..bytes.len()].copy_from_slice(bytes);
        for (value, symbol) in values.iter_mut().zip(unpack::<BITS>(&full)) {
            *value = table[usize::from(symbol) % MOST];
        }
    }
    rotate_back(out, stream, first, rounds);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard normal distribution function, to 1e-7 (Abramowitz and Stegun 7.1.26).
    fn below(x: f64) -> f64 {
        let t = 1.0 / (1.0 + 0.327_591_1 * (x.abs() / 2_f64.sqrt()));
        let poly = t
            * (0.254_829_592
                + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
        let upper = poly * (-x * x / 2.0).exp() / 2.0;
        if x < 0.0 { upper } else { 1.0 - upper }
    }

    #[test]
    fn centroids_are_the_means_of_what_is_nearest_to_them() {
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        for bits in 1..=4 {
            let (all, between) = (centroids(bits), thresholds(bits));
            for i in 0..1 << bits {
                let low = if i == 0 { f64::NEG_INFINITY } else { f64::from(between[i - 1]) };
                let high = f64::from(between[i]);
                let mean = (density(low) - density(high)) / (below(high) - below(low));
                assert!((mean - f64::from(all[i])).abs() < 1e-5, "{bits} bits, {i}: {mean}");
            }
        }
    }
}
