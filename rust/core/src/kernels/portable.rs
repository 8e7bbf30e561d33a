//! The kernels as plain loops: the specification that every other level is compared with, bit for bit.
//!
//! The bodies are `#[inline(always)]` and keep 16 elements side by side, so that a level that only widens
//! the vectors can compile the same body under `#[target_feature]`.

use super::{Decode, Encode, Mask, Mix, STRIP, prefetch};
use crate::philox::{CHUNK, Stream, philox_lanes};
use crate::quantizer::{Norm, Quantizer, SCALE_LIMIT};
use crate::real::Real;

const LANES: usize = 16;
/// Every block is a multiple of this, so these elements share a scale.
pub(crate) const GROUP: usize = 32;
const SIGN: u32 = 0x8000_0000;
/// 2^23 as bits: a float in 2^23..2^24 holds its integer part in the low 23 bits.
const TWO_POW_23: f32 = 8_388_608.0;
const EVEN_8: u64 = 0x00FF_00FF_00FF_00FF;
const EVEN_16: u64 = 0x0000_FFFF_0000_FFFF;
const EVEN_32: u64 = 0x0000_0000_FFFF_FFFF;

/// The words of the counters `16 * index` to `16 * index + 15`.
#[inline(always)]
fn random_words(stream: &Stream, index: u32) -> [[u32; LANES]; 4] {
    let first = index.wrapping_mul(LANES as u32);
    let counters = [
        std::array::from_fn(|lane| first.wrapping_add(lane as u32)),
        [stream.words[0]; LANES],
        [stream.words[1]; LANES],
        [stream.words[2]; LANES],
    ];
    philox_lanes(counters, stream.key)
}

/// The 16-bit numbers of one chunk: number `row * 16 + lane` is half `row & 1` (0 is the low one) of word
/// `row >> 1` of counter `chunk * 16 + lane`.
#[inline(always)]
pub(crate) fn random_u16(stream: &Stream, chunk: u32) -> [u16; CHUNK] {
    let mut numbers = [0; CHUNK];
    for (pair, word) in numbers.chunks_exact_mut(2 * LANES).zip(&random_words(stream, chunk)) {
        let (low, high) = pair.split_at_mut(LANES);
        for lane in 0..LANES {
            low[lane] = word[lane] as u16;
            high[lane] = (word[lane] >> 16) as u16;
        }
    }
    numbers
}

/// 2048 bits: word `w` of counter `16 * index + l` is number `4 * l + w` of these words.
#[inline(always)]
pub(super) fn random_bits(stream: &Stream, index: u32) -> [u32; 4 * LANES] {
    let words = random_words(stream, index);
    std::array::from_fn(|at| words[at % 4][at / 4])
}

/// See [`Encode`].
#[inline(always)]
pub(crate) fn encode_tile(tile: Encode<'_>) -> Result<(), usize> {
    match tile.quantizer.bits() {
        2 => encode::<2>(tile),
        3 => encode::<3>(tile),
        4 => encode::<4>(tile),
        5 => encode::<5>(tile),
        6 => encode::<6>(tile),
        7 => encode::<7>(tile),
        _ => encode::<8>(tile),
    }
}

#[inline(always)]
fn encode<const BITS: usize>(tile: Encode<'_>) -> Result<(), usize> {
    let Encode { quantizer, stream, chunk: first, x, scales, codes } = tile;
    let block = quantizer.block();
    for (b, (values, scale)) in x.chunks(block).zip(scales.chunks_exact_mut(4)).enumerate() {
        let largest = max_magnitude_bits(values);
        let s = block_scale(quantizer, values, largest, l2_norm).map_err(|at| b * block + at)?;
        scale.copy_from_slice(&s.to_le_bytes());
    }

    let levels = quantizer.levels();
    for (c, (values, packed)) in x.chunks(CHUNK).zip(codes.chunks_mut(CHUNK / 8 * BITS)).enumerate() {
        let numbers = random_u16(stream, first.wrapping_add(c as u32));
        let mut full = [0.0; CHUNK];
        full[..values.len()].copy_from_slice(values);

        let mut symbols = [0; CHUNK];
        let (full, _) = full.as_chunks();
        let (numbers, _) = numbers.as_chunks();
        let (groups, _) = symbols.as_chunks_mut();
        for (g, symbols) in groups.iter_mut().enumerate() {
            let at = (c * CHUNK + g * GROUP) / block;
            let multiplier = scales.get(at * 4..).map_or(0.0, |bytes| quantizer.multiplier(read_f32(bytes)));
            quantize_group(levels, multiplier, &full[g], &numbers[g], symbols);
        }
        symbols[values.len()..].fill(0); // the stream's unused bits are zero
        let mut bytes = [0; CHUNK];
        pack::<BITS>(&symbols, &mut bytes);
        packed.copy_from_slice(&bytes[..packed.len()]);
    }
    Ok(())
}

/// V = clamp(round_half_even(x * multiplier)), q = (V + r) >> 16, symbol = q + L.
#[inline(always)]
fn quantize_group(
    levels: u32,
    multiplier: f32,
    x: &[f32; GROUP],
    numbers: &[u16; GROUP],
    symbols: &mut [u8; GROUP],
) {
    let limit = (levels << 16) as f32;
    for i in 0..GROUP {
        let scaled = x[i] * multiplier;
        let sign = scaled.to_bits() as i32 >> 31;
        // Rounding is symmetric and the limit an integer below 2^23, so the magnitude may be clamped first;
        // adding 2^23 then leaves the magnitude, rounded half to even, in the low bits.
        let magnitude = scaled.abs();
        let magnitude = if magnitude < limit { magnitude } else { limit } + TWO_POW_23;
        let fixed = ((magnitude.to_bits() - TWO_POW_23.to_bits()) as i32 ^ sign) - sign;
        symbols[i] = (((fixed + i32::from(numbers[i])) >> 16) + levels as i32) as u8;
    }
}

/// The scale of one block whose largest magnitude is given as bits, 0 where it would be too small to divide by.
///
/// # Errors
/// The index of the first number that is not finite or too large.
#[inline(always)]
pub(crate) fn block_scale(
    quantizer: &Quantizer,
    x: &[f32],
    largest: u32,
    l2_norm: impl FnOnce(&[f32]) -> f32,
) -> Result<f32, usize> {
    if largest >= SCALE_LIMIT.to_bits() {
        return Err(first_at_or_above(x, SCALE_LIMIT.to_bits()).unwrap_or(0));
    }
    let scale = match quantizer.norm() {
        Norm::Max => f32::from_bits(largest),
        Norm::L2 => l2_norm(x),
    };
    Ok(if quantizer.multiplier(scale) == 0.0 { 0.0 } else { scale })
}

/// Largest magnitude as bits: for magnitudes the order of the bits is the order of the numbers, and
/// infinities and NaN come last.
#[inline(always)]
pub(crate) fn max_magnitude_bits(x: &[f32]) -> u32 {
    let mut lanes = [0; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane).max((value.to_bits() & !SIGN) as i32);
        }
    }
    for value in chunks.remainder() {
        lanes[0] = lanes[0].max((value.to_bits() & !SIGN) as i32);
    }
    lanes.iter().fold(0, |most, &lane| most.max(lane)) as u32
}

/// Index of the first number whose magnitude, as bits, is `limit` or more.
pub(crate) fn first_at_or_above(x: &[f32], limit: u32) -> Option<usize> {
    x.iter().position(|value| value.to_bits() & !SIGN >= limit)
}

/// Euclidean norm, at most the largest scale.
#[inline(always)]
fn l2_norm(x: &[f32]) -> f32 {
    root(lane_sum(x, |value| f64::from(value) * f64::from(value)))
}

/// Sum of `term` over x in f64: that of element i is added to sum `i % 16`, then sum l takes sum l + 8, then l + 4,
/// l + 2, l + 1. This order is part of the promise.
#[inline(always)]
pub(crate) fn lane_sum(x: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    let mut sums = [0.0_f64; LANES];
    for chunk in x.chunks(LANES) {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += term(value);
        }
    }
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
    }
    sums[0]
}

/// The norm from the sum of squares. Every step rounds monotonically, so that it is never below the largest
/// magnitude.
#[inline(always)]
pub(crate) fn root(squares: f64) -> f32 {
    (squares.sqrt() as f32).min(SCALE_LIMIT.next_down())
}

/// Packs 128 symbols of `BITS` bits: symbol i becomes bits `i * BITS..(i + 1) * BITS` of the stream.
#[inline(always)]
pub(crate) fn pack<const BITS: usize>(symbols: &[u8; CHUNK], out: &mut [u8; CHUNK]) {
    let (eights, _) = symbols.as_chunks();
    for (eight, bytes) in eights.iter().zip(out.chunks_exact_mut(BITS)) {
        // Neighbours move together: bytes to pairs of 2 symbols, pairs to fours, fours to all eight.
        let word = u64::from_le_bytes(*eight);
        let word = word & EVEN_8 | (word >> 8 & EVEN_8) << BITS;
        let word = word & EVEN_16 | (word >> 16 & EVEN_16) << (2 * BITS);
        let word = word & EVEN_32 | (word >> 32) << (4 * BITS);
        bytes.copy_from_slice(&word.to_le_bytes()[..BITS]);
    }
}

/// See [`Decode`].
#[inline(always)]
pub(crate) fn decode_tile(tile: Decode<'_>) {
    match tile.quantizer.bits() {
        2 => decode::<2>(tile),
        3 => decode::<3>(tile),
        4 => decode::<4>(tile),
        5 => decode::<5>(tile),
        6 => decode::<6>(tile),
        7 => decode::<7>(tile),
        _ => decode::<8>(tile),
    }
}

#[inline(always)]
fn decode<const BITS: usize>(tile: Decode<'_>) {
    let Decode { quantizer, scales, codes, first, out } = tile;
    let levels = quantizer.levels() as i32;
    let codes = codes.get(first / 8 * BITS..).unwrap_or(&[]);
    let groups = out.chunks_mut(GROUP).zip(codes.chunks(GROUP / 8 * BITS)).enumerate();
    for (g, (out, bytes)) in groups {
        let at = (first + g * GROUP) / quantizer.block();
        let step = scales.get(at * 4..).map_or(0.0, |bytes| quantizer.step(read_f32(bytes)));
        let mut full = [0; GROUP]; // the last group of a message may be short
        full[..bytes.len()].copy_from_slice(bytes);
        let symbols = unpack::<BITS>(&full);
        for (value, &symbol) in out.iter_mut().zip(&symbols) {
            *value = (i32::from(symbol) - levels) as f32 * step;
        }
    }
}

#[inline(always)]
pub(super) fn unpack<const BITS: usize>(bytes: &[u8; GROUP]) -> [u8; GROUP] {
    let mut symbols = [0; GROUP];
    let (eights, _) = symbols.as_chunks_mut();
    for (eight, bytes) in eights.iter_mut().zip(bytes.chunks_exact(BITS)) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(bytes);
        // The steps of `pack` backwards.
        let (one, two, four) = ((1 << BITS) - 1, (1 << (2 * BITS)) - 1, (1 << (4 * BITS)) - 1);
        let (ones, twos) = (one * 0x0001_0001_0001_0001, two * 0x0000_0001_0000_0001);
        let word = u64::from_le_bytes(word);
        let word = word & four | (word >> (4 * BITS)) << 32;
        let word = word & twos | (word >> (2 * BITS) & twos) << 16;
        let word = word & ones | (word >> BITS & ones) << 8;
        *eight = word.to_le_bytes();
    }
    symbols
}

#[inline(always)]
pub(crate) fn read_f32(bytes: &[u8]) -> f32 {
    bytes.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}

/// See [`Mix`].
#[inline(always)]
pub(crate) fn mix_row<T: Real>(piece: Mix<'_, T>) {
    let Mix { x, mut z, slot, own, weights, slots, gamma, ahead } = piece;
    let sums = |z: &[T], x: &mut [T; STRIP]| mix_strip(x, z, slot, own, weights, slots, gamma);
    let mut ahead = ahead.chunks(STRIP);
    let (strips, rest) = x.as_chunks_mut();
    for x in strips {
        if let Some(ahead) = ahead.next() {
            prefetch(ahead);
        }
        sums(z, x);
        z = z.get(STRIP..).unwrap_or(&[]);
    }
    if !rest.is_empty() {
        let mut full = [T::ZERO; STRIP];
        full[..rest.len()].copy_from_slice(rest);
        sums(z, &mut full);
        rest.copy_from_slice(&full[..rest.len()]);
    }
}

/// One strip: its sums fit in registers, and its length is known, so that the compiler uses vectors.
#[inline(always)]
fn mix_strip<T: Real>(
    x: &mut [T; STRIP],
    z: &[T],
    slot: usize,
    own: u32,
    weights: &[T],
    slots: &[u32],
    gamma: T,
) {
    let row = |at: u32| z.get(at as usize * slot..).and_then(<[T]>::first_chunk::<STRIP>);
    let Some(&own) = row(own) else { return };
    let mut sums = [T::ZERO; STRIP];
    for (&weight, &at) in weights.iter().zip(slots) {
        let Some(other) = row(at) else { return };
        for l in 0..STRIP {
            sums[l] = sums[l] + weight * (other[l] - own[l]);
        }
    }
    for l in 0..STRIP {
        x[l] = x[l] + gamma * sums[l];
    }
}

/// See [`Mask`].
#[inline(always)]
pub(crate) fn mask_chunk(mask: Mask<'_>) {
    let numbers = random_u16(mask.stream, mask.chunk);
    for (value, &number) in mask.out.iter_mut().zip(&numbers) {
        *value = if number < mask.threshold { 0.0 } else { mask.keep };
    }
}
