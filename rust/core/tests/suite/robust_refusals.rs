//! What the robust rules refuse: values that are not finite, neighbourhoods that are too small, sizes that do not fit.

use declora_core::Error;

use crate::naive::{self, Dense, matrix, values};

#[test]
fn what_is_not_finite_is_refused_with_its_place() {
    for (bad, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut z = values(4 * 5000, 1);
        z[2 * 5000 + 4321] = bad;
        let (before, matrix) = (values(4 * 5000, 2), matrix(&naive::symmetric(4, 1)));
        let mut x = before.clone();
        let errors = [
            matrix.clipped(&z, 1.0).unwrap_err(),
            matrix.clipped_beyond(&z, &[0; 4]).unwrap_err(),
            matrix.nearest(&z, &[0; 4]).unwrap_err(),
            matrix.krum(&z, &[0; 4], None).unwrap_err(),
            matrix.trimmed_mean_into(&z, &mut x, &[0; 4], 1.0).unwrap_err(),
            matrix.median_into(&z, &mut x, 1.0).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().starts_with(&format!("z={text} in row 2, column 4321 ")), "{error}");
        }
        assert_eq!(x, before);
    }
}

#[test]
fn neighbourhoods_too_small_for_the_rule_are_refused_with_their_row() {
    let ring: Dense = (0..5)
        .map(|i| {
            (0..5_usize)
                .map(move |j| if i == j || (i + 1) % 5 == j || (j + 1) % 5 == i { 1.0 / 3.0 } else { 0.0 })
        })
        .map(Iterator::collect)
        .collect();
    let (z, matrix) = (values(5 * 3, 1), matrix(&ring));
    let bad = [0, 0, 2, 0, 0];
    let refused = |error: Error, text: &str| {
        assert!(matches!(error, Error::Matrix { row: 2, .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(matrix.clipped_beyond(&z, &bad).unwrap_err(), "more than 2 bad");
    refused(matrix.nearest(&z, &bad).unwrap_err(), "3 values");
    refused(matrix.krum(&z, &[0, 0, 1, 0, 0], None).unwrap_err(), "2 bad + 3");
    refused(matrix.trimmed_mean_into(&z, &mut z.clone(), &bad, 1.0).unwrap_err(), "bad=2");
    for have in [4, 6] {
        let error = matrix.nearest(&z, &vec![0; have]).unwrap_err();
        assert_eq!(error, Error::Length { field: "bad", have, need: 5 });
    }
    assert!(matrix.krum(&z, &[0; 5], Some(0)).unwrap_err().to_string().starts_with("average=0"));
    for radius in [f64::NAN, -1.0] {
        assert!(matrix.clipped(&z, radius).unwrap_err().to_string().starts_with("radius="));
    }
    let error = matrix.median_into(&z, &mut [0.0; 5], 1.0).unwrap_err();
    assert_eq!(error, Error::Length { field: "x", have: 5, need: 15 });
    assert!(matrix.median_into(&z, &mut z.clone(), f64::NAN).unwrap_err().to_string().starts_with("gamma="));
}

/// k values are too few for k / 2 bad ones, and enough for fewer; Krum needs 2 bad + 3.
#[test]
fn rules_need_one_value_more_than_twice_the_bad_ones() {
    for k in 2..8_u32 {
        let n = k as usize;
        let matrix = matrix(&vec![vec![1.0 / f64::from(k); n]; n]);
        let z = values(n * 3, 1);
        for bad in 0..k {
            let each = vec![bad; n];
            let enough = [
                matrix.clipped_beyond(&z, &each).is_ok(),
                matrix.nearest(&z, &each).is_ok(),
                matrix.trimmed_mean_into(&z, &mut z.clone(), &each, 1.0).is_ok(),
            ];
            assert_eq!(enough, [k > 2 * bad; 3], "{k} values, {bad} bad");
            let own = k < 3 && bad == 0; // nobody to choose among
            assert_eq!(
                matrix.krum(&z, &each, None).is_ok(),
                own || k >= 2 * bad + 3,
                "{k} values, {bad} bad"
            );
        }
    }
}
