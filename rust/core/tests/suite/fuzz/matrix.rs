//! Compressed sparse rows: what is taken for a mixing matrix is one, and mixes.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use declora_core::{Error, MixingMatrix};

use super::case;
use crate::naive::{bits, picked};

pub fn matrix(u: &mut Unstructured<'_>) -> Result<()> {
    let (indptr, indices, weights) = rows(u)?;
    let (known, own) = places(u, indptr.len().saturating_sub(1))?;
    let matrix = match MixingMatrix::rectangle(&indptr, &indices, &weights, known, &own) {
        Ok(matrix) => matrix,
        Err(error) => {
            assert!(matches!(error, Error::Matrix { row, .. } if row < indptr.len().max(1)), "{error}");
            return Ok(());
        }
    };
    let sizes = (indptr.len() - 1, known, weights.len());
    assert_eq!((matrix.local(), matrix.known(), matrix.nnz()), sizes);
    assert!(own.len() == matrix.local() && matrix.own().iter().zip(&own).all(|(&a, &b)| a as i64 == b));
    assert!(own.iter().collect::<BTreeSet<_>>().len() == own.len());
    assert!(own.iter().all(|own| (0..known as i64).contains(own)));
    for row in indptr.windows(2) {
        let entries = usize::try_from(row[0]).unwrap()..usize::try_from(row[1]).unwrap();
        let (indices, weights) = (&indices[entries.clone()], &weights[entries]);
        assert!(indices.is_sorted_by(|a, b| a < b));
        assert!(indices.iter().all(|&index| (0..known as i64).contains(&index)));
        assert!(weights.iter().all(|&weight| weight.is_finite() && weight >= 0.0));
        assert!((weights.iter().sum::<f64>() - 1.0).abs() <= 1e-9);
    }
    mixes(u, &matrix)
}

/// Any numbers, or good rows with some of their numbers changed.
fn rows(u: &mut Unstructured<'_>) -> Result<(Vec<i64>, Vec<i64>, Vec<f64>)> {
    if u.ratio(1, 4)? {
        return Ok((u.arbitrary()?, u.arbitrary()?, u.arbitrary()?));
    }
    let (mut indptr, mut indices, mut weights) = case::weights(u)?;
    for _ in 0..u.int_in_range(0..=2)? {
        let list = if u.arbitrary()? { &mut indptr } else { &mut indices };
        let at = u.choose_index(list.len())?;
        list[at] = if u.ratio(1, 4)? { u.arbitrary()? } else { u.int_in_range(-1..=13)? };
    }
    if u.ratio(1, 4)? {
        let at = u.choose_index(weights.len())?;
        weights[at] = u.arbitrary()?;
    }
    Ok((indptr, indices, weights))
}

/// Those of a square mostly; or others of some that are known, or any numbers.
fn places(u: &mut Unstructured<'_>, rows: usize) -> Result<(usize, Vec<i64>)> {
    let (mut known, mut own) = (rows, (0..rows as i64).collect::<Vec<_>>());
    if u.ratio(1, 2)? {
        known += u.int_in_range(0..=3)?;
        for at in 0..rows {
            own.swap(at, u.choose_index(rows)?);
        }
    }
    if u.ratio(1, 8)? {
        known = u.arbitrary()?;
    }
    if u.ratio(1, 8)? {
        own = u.arbitrary()?;
    }
    Ok((known, own))
}

/// Results are between the numbers that were mixed, and in place they are those of a copy.
fn mixes(u: &mut Unstructured<'_>, matrix: &MixingMatrix) -> Result<()> {
    let n = matrix.known();
    let columns = u.int_in_range(
        0..=match n {
            0..50 => 300,
            50..5000 => 2,
            _ => 0,
        },
    )?;
    let x = case::floats(u, n * columns)?;
    let gamma = f64::from(u.arbitrary::<u8>()?) / 255.0;
    let (mut in_place, mut with_copy) = (x.clone(), picked(&x, columns, matrix.own()));
    matrix.mix_into(&x, &mut with_copy, gamma).unwrap();
    if n == matrix.local() && matrix.own().is_sorted() {
        matrix.mix_in_place(&mut in_place, gamma).unwrap();
        for (a, b) in in_place.iter().zip(&with_copy) {
            assert!(bits(&[*a]) == bits(&[*b]) || a.is_nan() && b.is_nan());
        }
    } else {
        let error = matrix.mix_in_place(&mut in_place, gamma).unwrap_err();
        assert!(matches!(error, Error::Matrix { .. }), "{error}");
        assert_eq!(bits(&in_place), bits(&x));
    }
    let least = x.iter().fold(f32::INFINITY, |least, &x| least.min(x));
    let most = x.iter().fold(f32::NEG_INFINITY, |most, &x| most.max(x));
    if x.iter().all(|x| x.abs() < 1e30) {
        // n terms, each rounded to 2^-24 of at most the whole range; and rows sum to 1 to 1e-9.
        let slack = (n as f32 + 4.0) * 2_f32.powi(-23) * (most.max(-least)) + f32::MIN_POSITIVE;
        assert!(with_copy.iter().all(|&y| least - slack <= y && y <= most + slack));
    }
    Ok(())
}
