//! The consensus distance.

use declora_core::{Error, consensus_distance};

use crate::naive::values;

#[test]
fn consensus_distance_matches_the_definition() {
    for (rows, columns) in [(1, 10), (2, 1), (3, 1023), (7, 1024), (5, 1025), (4, 5000), (600, 1100)] {
        let x = values(rows * columns, 1);
        let mut squares = 0.0;
        for c in 0..columns {
            let column = || (0..rows).map(|i| f64::from(x[i * columns + c]));
            let mean = column().sum::<f64>() / rows as f64;
            squares += column().map(|x| (x - mean).powi(2)).sum::<f64>();
        }
        let expected = (squares / rows as f64).sqrt();
        // Two orders of so many additions of positive f64 numbers, each of which may round by half an epsilon, and a
        // few other operations.
        let tolerance = (rows * columns + 8) as f64 * f64::EPSILON;
        assert!((consensus_distance(&x, rows).unwrap() - expected).abs() <= tolerance * expected);
    }
}

#[test]
fn two_rows_are_half_their_distance_from_their_mean() {
    assert_eq!(consensus_distance(&[0.0, 0.0, 6.0, 8.0], 2).unwrap(), 5.0);
}

#[test]
fn equal_rows_have_no_distance_and_an_empty_matrix_neither() {
    assert_eq!(consensus_distance(&[0.1; 3 * 2000], 3).unwrap(), 0.0);
    assert_eq!(consensus_distance(&[], 0).unwrap(), 0.0);
    assert_eq!(consensus_distance(&[], 5).unwrap(), 0.0);
}

#[test]
fn a_matrix_that_is_not_whole_rows_is_refused() {
    assert!(matches!(consensus_distance(&[0.0; 7], 2), Err(Error::Length { field: "x", .. })));
    assert!(matches!(consensus_distance(&[0.0; 7], 0), Err(Error::Length { field: "x", .. })));
}
