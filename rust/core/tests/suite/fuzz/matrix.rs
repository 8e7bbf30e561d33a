//! Compressed sparse rows: what is taken for a mixing matrix is one, and mixes.

use arbitrary::{Result, Unstructured};
use declora_core::{Error, MixingMatrix};

use super::case;
use crate::naive::bits;

pub fn matrix(u: &mut Unstructured<'_>) -> Result<()> {
    let (indptr, indices, weights) = rows(u)?;
    let matrix = match MixingMatrix::new(&indptr, &indices, &weights) {
        Ok(matrix) => matrix,
        Err(error) => {
            assert!(matches!(error, Error::Matrix { row, .. } if row < indptr.len().max(1)), "{error}");
            return Ok(());
        }
    };
    let n = matrix.clients();
    assert_eq!((n, matrix.nnz()), (indptr.len() - 1, weights.len()));
    for row in indptr.windows(2) {
        let entries = usize::try_from(row[0]).unwrap()..usize::try_from(row[1]).unwrap();
        let (indices, weights) = (&indices[entries.clone()], &weights[entries]);
        assert!(indices.is_sorted_by(|a, b| a < b));
        assert!(indices.iter().all(|&index| (0..n as i64).contains(&index)));
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

/// Results are between the numbers that were mixed, and in place they are those of a copy.
fn mixes(u: &mut Unstructured<'_>, matrix: &MixingMatrix) -> Result<()> {
    let n = matrix.clients();
    let columns = u.int_in_range(0..=if n < 50 { 300 } else { 2 })?;
    let x = case::floats(u, n * columns)?;
    let gamma = f64::from(u.arbitrary::<u8>()?) / 255.0;
    let (mut in_place, mut with_copy) = (x.clone(), x.clone());
    matrix.mix_in_place(&mut in_place, gamma).unwrap();
    matrix.mix_into(&x, &mut with_copy, gamma).unwrap();
    for (a, b) in in_place.iter().zip(&with_copy) {
        assert!(bits(&[*a]) == bits(&[*b]) || a.is_nan() && b.is_nan());
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
