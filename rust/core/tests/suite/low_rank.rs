//! "powersgd": projections, orthonormal factors, and draws of their own for every part of a message.

use crate::naive::{codec, encoded, values};
use crate::trials::{error, send, squares};

#[test]
fn powersgd_is_a_projection_and_exact_on_matrices_of_its_rank() {
    let (rows, columns) = (40, 30);
    let (a, b) = (values(rows * 2, 1), values(columns * 2, 2));
    let exact: Vec<f32> = (0..rows * columns)
        .map(|at| (0..2).map(|k| a[at / columns * 2 + k] * b[at % columns * 2 + k]).sum())
        .collect();
    let of = |text: &str| codec(text).with_shapes(&[(rows, columns)]).unwrap();
    let (_, z) = send(&of("powersgd:rank=2"), &exact, 0);
    assert!(error(&exact, &z) < 1e-12 * squares(&exact));
    let x = values(rows * columns, 3);
    let mut before = squares(&x);
    for rank in [1, 2, 5, 10] {
        let (_, z) = send(&of(&format!("powersgd:rank={rank},iterations=4")), &x, 0);
        let left = error(&x, &z);
        // Pythagoras: what is kept and what is left are orthogonal.
        assert!((left + squares(&z) - squares(&x)).abs() < 1e-4 * squares(&x));
        assert!(left < before);
        before = left;
    }
}

#[test]
fn powersgd_sends_zeros_and_equal_columns() {
    let of = codec("powersgd:rank=3").with_shapes(&[(20, 20)]).unwrap();
    assert_eq!(send(&of, &[0.0; 400], 0).1, [0.0; 400]);
    let (_, z) = send(&of, &[1.5; 400], 0);
    assert!(z.iter().all(|z| (z - 1.5).abs() < 1e-5));
}

/// The columns of M Q0 are all but parallel: M is of rank 1 but for rows of 2^-31. A column is cleared of those before it
/// twice, so that P is orthonormal to the rounding of f32, 2e-8 here; once leaves the rounding of f64 as a part of 2^-31,
/// 5e-7 in some of 20 draws.
#[test]
fn the_first_factor_is_orthonormal_where_columns_are_all_but_parallel() {
    let (rows, columns, rank) = (64, 48, 3);
    let noise = values(rows * columns, 5);
    let x: Vec<f32> = (0..rows * columns)
        .map(|at| if at / columns < rows / 2 { 1.0 } else { noise[at] * 2_f32.powi(-31) })
        .collect();
    let low_rank = codec("powersgd:rank=3,iterations=1").with_shapes(&[(rows, columns)]).unwrap();
    for round in 0..20 {
        let (payload, _) = send(&low_rank, &x, round);
        let p: Vec<f64> = payload[..4 * rows * rank]
            .chunks_exact(4)
            .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
            .collect();
        for a in 0..rank {
            for b in 0..rank {
                let product: f64 = p.chunks(rank).map(|row| row[a] * row[b]).sum();
                let off = (product - f64::from(u8::from(a == b))).abs();
                assert!(off < 1e-7, "columns {a} and {b}: {off:e}");
            }
        }
    }
}

#[test]
fn equal_matrices_of_a_message_start_from_subspaces_of_their_own() {
    let m = values(600, 1);
    let both = codec("powersgd:rank=1,iterations=1").with_shapes(&[(30, 20), (30, 20)]).unwrap();
    let (payload, _) = send(&both, &[&*m, &*m].concat(), 0);
    let (first, second) = payload.split_at(payload.len() / 2);
    assert_ne!(first, second);
}

/// Matrices of one row are sent whole, by the codec of their values.
#[test]
fn equal_parts_of_a_message_are_rounded_by_draws_of_their_own() {
    let x = values(256, 1);
    let both = codec("powersgd:values=q3").with_shapes(&[(1, 256), (1, 256)]).unwrap();
    let payload = encoded(&both, &[&*x, &*x].concat());
    let (first, second) = payload.split_at(payload.len() / 2);
    assert_eq!(first[..4], second[..4], "the scale");
    assert_ne!(first[4..], second[4..]);
    // The first part draws as a message of its own would.
    assert_eq!(first, encoded(&codec("q3"), &x));
}
