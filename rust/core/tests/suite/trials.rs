//! What a codec does to vectors, over many draws.

use declora_core::{Codec, Stream};

use crate::naive::values;

/// The payload of `x` in a round, and what it decodes to.
pub fn send(codec: &Codec, x: &[f32], round: u32) -> (Vec<u8>, Vec<f32>) {
    let mut payload = vec![0xAA; codec.payload_len(x.len()).unwrap()];
    let len = codec.encode_into(x, &mut payload, &Stream::quantizer(5, round, 9)).unwrap();
    assert!(payload[len..].iter().all(|&byte| byte == 0));
    payload.truncate(len);
    let mut z = vec![f32::NAN; x.len()];
    codec.decode_into(&payload, &mut z).unwrap();
    (payload, z)
}

/// ||x||^2.
pub fn squares<'a>(x: impl IntoIterator<Item = &'a f32>) -> f64 {
    x.into_iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// ||z - x||^2.
pub fn error(x: &[f32], z: &[f32]) -> f64 {
    x.iter().zip(z).map(|(&x, &z)| (f64::from(x) - f64::from(z)).powi(2)).sum()
}

/// Mean of what is decoded over `rounds` draws, and the mean squared error.
pub fn average(codec: &Codec, x: &[f32], rounds: u32) -> (Vec<f64>, f64) {
    let (mut mean, mut squared) = (vec![0.0; x.len()], 0.0);
    for round in 0..rounds {
        let (_, z) = send(codec, x, round);
        mean.iter_mut().zip(&z).for_each(|(mean, &z)| *mean += f64::from(z) / f64::from(rounds));
        squared += error(x, &z) / f64::from(rounds);
    }
    (mean, squared)
}

/// Zeros, one value, a far value among small ones, two values, equal magnitudes, about normal ones.
pub fn inputs(n: usize) -> Vec<Vec<f32>> {
    let mut far = values(n, 3);
    far[n / 2] = 1e4;
    let mut pair = vec![0.0; n];
    (pair[0], pair[n - 1]) = (2.0, 1.0);
    let equal = (0..n).map(|i| if i % 3 == 0 { -0.7 } else { 0.7 }).collect();
    vec![vec![0.0; n], vec![1.5; n], far, pair, equal, values(n, 4)]
}

/// The squared error of the mean of T draws has expectation error / T. It is a sum over many numbers, or over few, of
/// which one is above 12 times its variance once in 2000.
pub fn assert_unbiased(codec: &Codec, x: &[f32], rounds: u32) {
    let (mean, squared) = average(codec, x, rounds);
    let bias: f64 = mean.iter().zip(x).map(|(m, &x)| (m - f64::from(x)).powi(2)).sum();
    // Besides, probabilities are multiples of 2^-16, and numbers f32.
    let most = 12.0 * squared / f64::from(rounds) + 2_f64.powi(-32) * squares(x);
    assert!(bias <= most, "{codec}: {bias} > {most}");
}
