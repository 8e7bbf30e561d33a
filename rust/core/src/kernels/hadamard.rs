//! Random rotations: signs drawn at random, then the Walsh-Hadamard transform, as often as asked for.

use super::portable::random_bits;
use crate::philox::Stream;

/// y <- (H D)^rounds x, in place: orthonormal. `x` has a power of two of at least 32 numbers; its first one is number
/// `first` of those whose signs `stream` draws.
#[inline(always)]
pub(super) fn rotate(x: &mut [f32], stream: &Stream, first: usize, rounds: u32) {
    for round in 0..rounds {
        flip_signs(x, stream, first, round);
        transform(x);
    }
}

/// The way back: x <- (D H)^rounds y.
#[inline(always)]
pub(super) fn rotate_back(x: &mut [f32], stream: &Stream, first: usize, rounds: u32) {
    for round in (0..rounds).rev() {
        transform(x);
        flip_signs(x, stream, first, round);
    }
}

#[inline(always)]
fn flip_signs(x: &mut [f32], stream: &Stream, first: usize, round: u32) {
    let stream = stream.of_rotation(round);
    // 2048 signs come from 16 counters, 128 from each.
    const SIGNS: usize = 2048;
    let mut done = 0;
    while done < x.len() {
        let at = first + done;
        let words = random_bits(&stream, (at / SIGNS) as u32);
        let (start, stop) = (at % SIGNS / 32, (at % SIGNS + (x.len() - done)).min(SIGNS) / 32);
        for (values, bits) in x[done..].chunks_exact_mut(32).zip(&words[start..stop]) {
            for (i, value) in values.iter_mut().enumerate() {
                *value = f32::from_bits(value.to_bits() ^ (bits >> i & 1) << 31);
            }
        }
        done += (stop - start) * 32;
    }
}

/// The orthonormal Walsh-Hadamard transform in natural order.
#[inline(always)]
fn transform(x: &mut [f32]) {
    let n = x.len();
    // The first three steps stay within eight neighbours.
    for eight in x.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *eight;
        let (a, b, c, d, e, f, g, h) = (a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h);
        let (a, b, c, d, e, f, g, h) = (a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h);
        *eight = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
    }
    // The others two at a time, so that numbers are loaded half as often; of an odd number the last one stays.
    let mut half = 8;
    while 4 * half <= n {
        for quarters in x.chunks_exact_mut(4 * half) {
            let (low, high) = quarters.split_at_mut(2 * half);
            let ((a, b), (c, d)) = (low.split_at_mut(half), high.split_at_mut(half));
            let eights = a.as_chunks_mut::<8>().0.iter_mut().zip(b.as_chunks_mut::<8>().0);
            let others = c.as_chunks_mut::<8>().0.iter_mut().zip(d.as_chunks_mut::<8>().0);
            for ((a, b), (c, d)) in eights.zip(others) {
                for i in 0..8 {
                    let (p, q, r, s) = (a[i] + b[i], a[i] - b[i], c[i] + d[i], c[i] - d[i]);
                    (a[i], b[i], c[i], d[i]) = (p + r, q + s, p - r, q - s);
                }
            }
        }
        half *= 4;
    }
    if half < n {
        let (low, high) = x.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            (*low, *high) = (*low + *high, *low - *high);
        }
    }
    let factor = 1.0 / (n as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= factor);
}
