//! Mixing: equal to the definition bit for bit, keeps the mean, and refuses matrices that do not average.

use declora_core::frame::HEADER_LEN;
use declora_core::{
    Batch, Codec, Error, Fault, MixingMatrix, Real, check_frames, decode_frames, encode_frames,
};
use proptest::prelude::*;

use crate::cases::cases;
use crate::naive::{self, Dense, bits, matrix, values};

const COLUMNS: [usize; 13] = [0, 1, 2, 31, 32, 33, 127, 128, 129, 255, 257, 4097, 9001];

fn ring(n: usize) -> Dense {
    let mut rows = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in [i, (i + 1) % n, (i + n - 1) % n] {
            rows[i][j] += 1.0 / 3.0;
        }
    }
    rows
}

/// The definition: terms in the order of j, each operation rounded in T.
fn mix_naive<T: Real>(dense: &Dense, z: &[T], x: &[T], gamma: f64) -> Vec<T> {
    let n = dense.len();
    let columns = x.len() / n;
    let mut out = x.to_vec();
    for i in 0..n {
        for c in 0..columns {
            let mut sum = T::ZERO;
            for j in (0..n).filter(|&j| j != i && dense[i][j] != 0.0) {
                sum = sum + T::from_f64(dense[i][j]) * (z[j * columns + c] - z[i * columns + c]);
            }
            out[i * columns + c] = x[i * columns + c] + T::from_f64(gamma) * sum;
        }
    }
    out
}

/// Row i hears i + 1, i + 2, i + 4 ...: rows of z are held from the first step to the last.
fn exponential(n: usize) -> Dense {
    let offsets: Vec<usize> = (0..).map(|power| 1 << power).take_while(|&offset| offset < n).collect();
    let mut rows = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in offsets.iter().map(|offset| (i + offset) % n).chain([i]) {
            rows[i][j] = 1.0 / (offsets.len() + 1) as f64;
        }
    }
    rows
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn mixing_matches_the_definition_bit_for_bit() {
    for (n, dense) in [(1, vec![vec![1.0]]), (3, ring(3)), (7, naive::symmetric(7, 1))] {
        for columns in COLUMNS {
            let (z, x) = (values(n * columns, 1), values(n * columns, 2));
            let mut mixed = x.clone();
            matrix(&dense).mix_into(&z, &mut mixed, 0.7).unwrap();
            assert_eq!(bits(&mixed), bits(&mix_naive(&dense, &z, &x, 0.7)), "{n} x {columns}");

            let (z, x) = (wide(&z), wide(&x));
            let mut mixed = x.clone();
            matrix(&dense).mix_into(&z, &mut mixed, 0.7).unwrap();
            assert_eq!(mixed, mix_naive(&dense, &z, &x, 0.7), "{n} x {columns}, f64");
        }
    }
}

/// Rows that come and go, and rows held near and far: more than one piece of each, and an end that is no strip.
#[test]
fn many_rows_match_the_definition_bit_for_bit() {
    for (dense, columns) in [(ring(70), 2100), (exponential(40), 1100), (exponential(300), 1030)] {
        let n = dense.len();
        let (z, x) = (values(n * columns, 1), values(n * columns, 2));
        let (mut mixed, mut in_place) = (x.clone(), x.clone());
        matrix(&dense).mix_into(&z, &mut mixed, 0.7).unwrap();
        assert!(bits(&mixed) == bits(&mix_naive(&dense, &z, &x, 0.7)), "{n} rows");
        matrix(&dense).mix_in_place(&mut in_place, 0.7).unwrap();
        assert!(bits(&in_place) == bits(&mix_naive(&dense, &x, &x, 0.7)), "{n} rows, in place");
    }
}

#[test]
fn mixing_in_place_is_mixing_with_a_copy() {
    for columns in COLUMNS {
        let dense = naive::symmetric(6, 9);
        let x = values(6 * columns, 2);
        let (mut in_place, mut with_copy) = (x.clone(), x.clone());
        matrix(&dense).mix_in_place(&mut in_place, 0.9).unwrap();
        matrix(&dense).mix_into(&x, &mut with_copy, 0.9).unwrap();
        assert_eq!(bits(&in_place), bits(&with_copy));
    }
}

#[test]
fn mixing_frames_is_decoding_and_mixing() {
    let n = 5;
    for columns in COLUMNS {
        for codec in &naive::codecs(columns) {
            let batch = batch(codec, columns);
            let x = values(n * columns, 4);
            let mut bytes = vec![0; n * (HEADER_LEN + codec.payload_len(columns).unwrap())];
            encode_frames(&batch, &x, &mut bytes, 3).unwrap();
            let frames = check_frames(&batch, &bytes).unwrap();

            let matrix = matrix(&naive::symmetric(n, 2));
            let (mut fused, mut apart, mut z) = (x.clone(), x.clone(), vec![0.0; x.len()]);
            matrix.mix_frames(&frames, &mut fused, 0.8).unwrap();
            decode_frames(&frames, &mut z).unwrap();
            matrix.mix_into(&z, &mut apart, 0.8).unwrap();
            assert_eq!(bits(&fused), bits(&apart), "{codec}, {columns} columns");
        }
    }
}

/// Messages of clients 0 to 4.
fn batch(codec: &Codec, columns: usize) -> Batch<'_> {
    let (rounds, senders) = (&[0; 5], &[0, 1, 2, 3, 4]);
    Batch { codec, columns, run_id: [0; 16], manifest: [0; 16], rounds, senders }
}

#[test]
fn a_frame_that_was_refused_moves_no_row() {
    let columns = 300;
    for codec in &naive::codecs(columns) {
        let batch = batch(codec, columns);
        let x = values(5 * columns, 4);
        let len = HEADER_LEN + codec.payload_len(columns).unwrap();
        let mut bytes = vec![0; 5 * len];
        encode_frames(&batch, &x, &mut bytes, 3).unwrap();
        bytes[3 * len + 50] ^= 1;
        let frames = check_frames(&batch, &bytes).unwrap();
        let fault = Fault::HeaderChecksum;
        for dense in [ring(5), vec![vec![0.0, 0.0, 0.0, 1.0, 0.0]; 5]] {
            let mut mixed = x.clone();
            let error = matrix(&dense).mix_frames(&frames, &mut mixed, 1.0).unwrap_err();
            assert_eq!(error, Error::Frame { row: Some(3), fault });
            assert_eq!(x, mixed);
        }

        let mut without = naive::symmetric(5, 2);
        for i in [0, 1, 2, 4] {
            without[i][i] += without[i][3];
            without[3][3] += without[3][i];
            (without[i][3], without[3][i]) = (0.0, 0.0);
        }
        let matrix = matrix(&without);
        let (mut fused, mut apart, mut z) = (x.clone(), x.clone(), vec![0.0; x.len()]);
        matrix.mix_frames(&frames, &mut fused, 0.8).unwrap();
        decode_frames(&frames, &mut z).unwrap();
        matrix.mix_into(&z, &mut apart, 0.8).unwrap();
        assert_eq!(bits(&fused), bits(&apart), "{codec}");
        assert!(fused[3 * columns..4 * columns].iter().zip(&x[3 * columns..]).all(|(a, b)| a == b));
    }
}

/// Every term appears twice with opposite signs, so only rounding moves the mean: 64 additions of numbers of
/// about 1, in f64.
#[test]
fn mixing_preserves_the_mean_whatever_z_is() {
    let columns = 50;
    for (dense, gamma) in [(ring(3), 1.0), (naive::symmetric(16, 4), 0.3), (naive::symmetric(64, 3), 1.0)] {
        let n = dense.len();
        let mean = |x: &[f64], c| (0..n).map(|i| x[i * columns + c]).sum::<f64>() / n as f64;
        let (z, before) = (wide(&values(n * columns, 5)), wide(&values(n * columns, 6)));
        let mut x = before.clone();
        matrix(&dense).mix_into(&z, &mut x, gamma).unwrap();
        assert_ne!(x, before);
        for c in 0..columns {
            assert!((mean(&x, c) - mean(&before, c)).abs() < 1e-12);
        }
    }
}

#[test]
fn equal_rows_stay_bit_for_bit() {
    let row = values(777, 8);
    let mut x: Vec<f32> = std::iter::repeat_n(&row, 9).flatten().copied().collect();
    matrix(&naive::symmetric(9, 7)).mix_in_place(&mut x, 1.0).unwrap();
    assert!(x.chunks_exact(777).all(|other| bits(other) == bits(&row)));
}

#[test]
fn the_identity_changes_nothing() {
    let dense: Dense = (0..4).map(|i| (0..4).map(|j| f64::from(i == j)).collect()).collect();
    let x = values(400, 8);
    let mut mixed = x.clone();
    matrix(&dense).mix_in_place(&mut mixed, 1.0).unwrap();
    assert_eq!(x, mixed);
}

#[test]
fn the_complete_graph_gives_the_mean_in_one_round() {
    let (n, columns) = (8, 100);
    let mut x = wide(&values(n * columns, 8));
    let means: Vec<f64> =
        (0..columns).map(|c| (0..n).map(|i| x[i * columns + c]).sum::<f64>() / n as f64).collect();
    matrix(&vec![vec![1.0 / n as f64; n]; n]).mix_in_place(&mut x, 1.0).unwrap();
    for row in x.chunks_exact(columns) {
        assert!(row.iter().zip(&means).all(|(x, mean)| (x - mean).abs() < 1e-14));
    }
}

#[test]
fn relabelled_clients_are_relabelled_results() {
    let (n, columns) = (6, 40);
    let order = [3, 0, 5, 1, 4, 2];
    let dense = naive::symmetric(n, 11);
    let permuted: Dense = order.iter().map(|&i| order.iter().map(|&j| dense[i][j]).collect()).collect();
    let mut x = wide(&values(n * columns, 12));
    let mut y: Vec<f64> = order.iter().flat_map(|&i| x[i * columns..][..columns].to_vec()).collect();
    matrix(&dense).mix_in_place(&mut x, 1.0).unwrap();
    matrix(&permuted).mix_in_place(&mut y, 1.0).unwrap();
    for (row, &i) in order.iter().enumerate() {
        for c in 0..columns {
            // Other orders of the same sums of numbers of about 1.
            assert!((y[row * columns + c] - x[i * columns + c]).abs() < 1e-14);
        }
    }
}

#[test]
fn matrices_that_do_not_average_are_refused_with_their_row() {
    type Case = (&'static [i64], &'static [i64], &'static [f64], usize, &'static str);
    let cases: [Case; 15] = [
        (&[], &[], &[], 0, "indptr has 0 items"),
        (&[0], &[], &[], 0, "indptr has 1 items"),
        (&[0, 1], &[0], &[], 0, "indices has 1 items and weights 0"),
        (&[1, 1], &[0], &[1.0], 0, "indptr[0]=1"),
        (&[0, 2], &[0], &[1.0], 0, "indptr[1]=2"),
        (&[0, 1], &[0, 0], &[1.0, 0.5], 0, "indptr[1]=1"),
        (&[0, 2, 1, 2], &[0, 1], &[0.5, 0.5], 1, "indptr[2]=1"),
        (&[0, -1, 1], &[0], &[1.0], 0, "indptr[1]=-1"),
        (&[0, 1, 2], &[0, 2], &[1.0, 1.0], 1, "index 2 is not a client"),
        (&[0, 1, 2], &[0, -1], &[1.0, 1.0], 1, "index -1 is not a client"),
        (&[0, 2, 3], &[1, 0, 1], &[0.5, 0.5, 1.0], 0, "index 0 is out of order"),
        (&[0, 1, 3], &[0, 1, 1], &[1.0, 0.5, 0.5], 1, "index 1 is out of order"),
        (&[0, 1, 3], &[0, 0, 1], &[1.0, -0.5, 1.5], 1, "weight -0.5 of client 0"),
        (&[0, 1, 2], &[0, 1], &[1.0, f64::NAN], 1, "weight NaN of client 1"),
        (&[0, 1, 2], &[0, 1], &[1.0, 1.0 + 2e-9], 1, "must sum to 1 within 1e-9"),
    ];
    for (indptr, indices, weights, row, text) in cases {
        let error = MixingMatrix::new(indptr, indices, weights).unwrap_err();
        assert!(matches!(error, Error::Matrix { row: at, .. } if at == row), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(MixingMatrix::new(&[0, 0], &[], &[]).unwrap_err().to_string().contains("sum to 0"));
    assert!(MixingMatrix::new(&[0, 1, 2], &[0, 1], &[1.0, 1.0 + 5e-10]).is_ok());
}

#[test]
fn sizes_and_gamma_are_checked() {
    let matrix = matrix(&ring(3));
    assert_eq!((matrix.local(), matrix.nnz()), (3, 9));
    for have in [1, 7, 100] {
        let error = matrix.mix_in_place(&mut vec![0.0_f32; have], 1.0).unwrap_err();
        assert!(matches!(error, Error::Length { field: "x", .. }));
        let error = matrix.mix_into(&vec![0.0_f32; have], &mut [0.0; 3], 1.0).unwrap_err();
        assert!(matches!(error, Error::Length { field: "z", .. }));
    }
    let error = matrix.mix_into(&[0.0_f32; 6], &mut [0.0; 3], 1.0).unwrap_err();
    assert_eq!(error, Error::Length { field: "x", have: 3, need: 6 });
    let frames = [0; 5 * (HEADER_LEN + 4)];
    let none = naive::codec("none");
    let frames = check_frames(&batch(&none, 1), &frames).unwrap();
    let error = matrix.mix_frames(&frames, &mut [0.0; 3], 1.0).unwrap_err();
    assert_eq!(error, Error::Length { field: "frames", have: 5, need: 3 });
    // 1e39 is finite, but not in f32.
    for gamma in [f64::NAN, f64::INFINITY, 1e39, -1e39] {
        let error = matrix.mix_in_place(&mut [0.0_f32; 3], gamma).unwrap_err();
        assert!(error.to_string().starts_with("gamma="), "{error}");
        assert!(matrix.mix_in_place(&mut [0.0_f64; 3], gamma).is_err());
    }
    for gamma in [3e38, 0.0, 1e-40] {
        matrix.mix_in_place(&mut [0.0_f32; 3], gamma).unwrap();
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_arrays_give_a_matrix_or_an_error(
        indptr in prop::collection::vec(-2_i64..6, 0..6),
        indices in prop::collection::vec(-2_i64..6, 0..6),
        weights in prop::collection::vec(prop::sample::select(vec![0.0, 0.5, 1.0, -1.0, f64::NAN]), 0..6),
    ) {
        if let Ok(matrix) = MixingMatrix::new(&indptr, &indices, &weights) {
            let mut x = values(matrix.local() * 3, 1);
            matrix.mix_in_place(&mut x, 1.0).unwrap();
            prop_assert!(x.iter().all(|x| x.is_finite()));
        }
    }
}
