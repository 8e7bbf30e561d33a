//! The matrix whose rows are all the same: equal to its definition bit for bit, and refuses what does not average.

use declora_core::frame::HEADER_LEN;
use declora_core::{
    Average, Batch, Codec, Error, Level, check_frames, decode_frames, encode_frames, with_level,
};

use crate::naive::{self, bits, matrix, values};

const COLUMNS: [usize; 8] = [0, 1, 31, 33, 129, 2047, 2049, 9001];

/// Weights that sum to 1 - `home`.
fn weights(n: usize, home: f64) -> Vec<f64> {
    let raw: Vec<f64> = (0..n).map(|i| f64::from((i * 7 % 5) as u32) + 0.5).collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|weight| weight / sum * (1.0 - home)).collect()
}

/// The definition: terms in the order of j and the step, all in f64.
fn naive(weights: &[f64], home: f64, z: &[f32], x: &[f32], first: usize, gamma: f64) -> Vec<f32> {
    let columns = z.len() / weights.len();
    let mut out = x.to_vec();
    for c in 0..columns {
        let mut mean = 0.0;
        for (j, weight) in weights.iter().enumerate() {
            mean += weight * f64::from(z[j * columns + c]);
        }
        let gamma = f64::from(gamma as f32);
        for i in 0..x.len() / columns {
            let at = i * columns + c;
            let (own, public) = (f64::from(x[at]), f64::from(z[(first + i) * columns + c]));
            let whole = gamma == 1.0 && home == 0.0;
            let step = own + gamma * (mean - (1.0 - home) * public);
            out[at] = if whole { (own - public) + mean } else { step } as f32;
        }
    }
    out
}

#[test]
fn averaging_matches_the_definition_bit_for_bit_at_every_level() {
    for (n, home) in [(1, 0.0), (3, 0.0), (7, 0.25), (40, 1.0 / 3.0)] {
        let weights = weights(n, home);
        let average = Average::new(&weights, home).unwrap();
        for columns in COLUMNS {
            let (z, x) = (values(n * columns, 1), values(n * columns, 2));
            for gamma in [0.7, 1.0] {
                let want = if columns == 0 { vec![] } else { naive(&weights, home, &z, &x, 0, gamma) };
                for &level in Level::available() {
                    let mut mixed = x.clone();
                    with_level(level, || average.mix_into(&z, &mut mixed, 0, gamma)).unwrap();
                    assert!(bits(&mixed) == bits(&want), "{n} x {columns}, {gamma}, {}", level.name());
                }
            }
        }
    }
}

#[test]
fn without_anything_at_home_all_rows_become_their_mean() {
    let (n, columns) = (9, 3000);
    let mut x = values(n * columns, 3);
    let (z, average) = (x.clone(), Average::new(&weights(n, 0.0), 0.0).unwrap());
    average.mix_into(&z, &mut x, 0, 1.0).unwrap();
    assert!(x.chunks_exact(columns).all(|row| bits(row) == bits(&x[..columns])));
}

/// Two ways to compute the same: apart by the roundings of n + 2 sums of numbers of at most 1, in f32.
#[test]
fn it_is_the_matrix_with_these_rows() {
    let (n, columns, home) = (12, 500, 0.25);
    let row = weights(n, home);
    let mut dense = vec![row.clone(); n];
    for i in 0..n {
        dense[i][i] += home;
    }
    let (z, x) = (values(n * columns, 4), values(n * columns, 5));
    let (mut one, mut other) = (x.clone(), x);
    Average::new(&row, home).unwrap().mix_into(&z, &mut one, 0, 0.9).unwrap();
    matrix(&dense).mix_into(&z, &mut other, 0.9).unwrap();
    let largest = z.iter().fold(1.0_f32, |most, z| most.max(z.abs()));
    for (one, other) in one.iter().zip(&other) {
        assert!((one - other).abs() < 2.0 * largest * 14.0 * f32::EPSILON, "{one} and {other}");
    }
}

#[test]
fn averaging_frames_is_decoding_and_averaging_for_some_rows_as_for_all() {
    let n = 5;
    let average = Average::new(&weights(n, 0.0), 0.0).unwrap();
    for columns in COLUMNS {
        for codec in &naive::codecs(columns) {
            let (bytes, x) = framed(codec, columns);
            let batch = batch(codec, columns);
            let frames = check_frames(&batch, &bytes).unwrap();
            let (mut fused, mut apart, mut z) = (x.clone(), x.clone(), vec![0.0; x.len()]);
            average.mix_frames(&frames, &mut fused, 0, 0.8).unwrap();
            decode_frames(&frames, &mut z).unwrap();
            average.mix_into(&z, &mut apart, 0, 0.8).unwrap();
            assert!(bits(&fused) == bits(&apart), "{codec}, {columns} columns");
            let mut some = x[columns..3 * columns].to_vec();
            average.mix_frames(&frames, &mut some, 1, 0.8).unwrap();
            assert!(bits(&some) == bits(&apart[columns..3 * columns]), "{codec}, {columns} columns");
        }
    }
}

#[test]
fn a_frame_that_was_refused_moves_nobody() {
    let codec: Codec = "q4".parse().unwrap();
    let (mut bytes, x) = framed(&codec, 300);
    let len = bytes.len() / 5;
    bytes[3 * len + 50] ^= 1;
    let batch = batch(&codec, 300);
    let frames = check_frames(&batch, &bytes).unwrap();
    let silent = [0.25, 0.25, 0.25, 0.0, 0.25]; // nobody hears client 3, which hears the others
    for weights in [vec![0.2; 5], silent.to_vec()] {
        let mut mixed = x.clone();
        let error = Average::new(&weights, 0.0).unwrap().mix_frames(&frames, &mut mixed, 0, 1.0).unwrap_err();
        assert!(matches!(error, Error::Frame { row: Some(3), .. }), "{error}");
        assert!(bits(&mixed) == bits(&x));
    }
    let (average, mut some) = (Average::new(&silent, 0.0).unwrap(), x[..600].to_vec());
    average.mix_frames(&frames, &mut some, 0, 1.0).unwrap();
    assert!(bits(&some[..300]) != bits(&x[..300]));
}

#[test]
fn what_does_not_average_is_refused() {
    for (weights, home, what) in [
        (vec![], 0.0, "it has 0 weights"),
        (vec![0.5, f64::NAN], 0.5, "weight NaN of client 1"),
        (vec![1.5, -0.5], 0.0, "weight -0.5 of client 1"),
        (vec![0.5, 0.6], -0.1, "weight -0.1 at home"),
        (vec![0.5, 0.4], 0.0, "weights sum to 0.9"),
        (vec![0.5, 0.5], 0.5, "weights sum to 1.5"),
    ] {
        let error = Average::new(&weights, home).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let average = Average::new(&[0.5, 0.5], 0.0).unwrap();
    assert_eq!(average.known(), 2);
    let z = [1.0; 6];
    for (x, first, gamma) in
        [(6, 1, 1.0), (3, 2, 1.0), (4, 0, 1.0), (3, usize::MAX, 1.0), (6, 0, f64::NAN), (6, 0, 1e39)]
    {
        let mut rows = vec![0.0; x];
        assert!(average.mix_into(&z, &mut rows, first, gamma).is_err(), "{x} {first} {gamma}");
        assert!(rows.iter().all(|&x| x == 0.0));
    }
    assert!(average.mix_into(&[1.0; 5], &mut [0.0; 5], 0, 1.0).is_err());
}

/// Messages of clients 0 to 4, and what they hold.
fn framed(codec: &Codec, columns: usize) -> (Vec<u8>, Vec<f32>) {
    let x = values(5 * columns, 4);
    let mut bytes = vec![0; 5 * (HEADER_LEN + codec.payload_len(columns).unwrap())];
    encode_frames(&batch(codec, columns), &x, &mut bytes, 3).unwrap();
    (bytes, x)
}

fn batch(codec: &Codec, columns: usize) -> Batch<'_> {
    let (rounds, senders) = (&[0; 5], &[0, 1, 2, 3, 4]);
    Batch { codec, columns, run_id: [0; 16], manifest: [0; 16], rounds, senders }
}
