//! Robust rules and push-sum on a mixing matrix.

use declora_core::Real;
use numpy::{Element, Ix1, Ix2};
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, is_f64, output};
use crate::mixing::MixingMatrix;
use crate::threads::run;

type Any<'a, 'py> = &'a Bound<'py, PyAny>;
type Weights = declora_core::Result<declora_core::MixingMatrix>;

#[pyfunction]
pub(crate) fn clipped(matrix: &MixingMatrix, z: Any, radius: f64) -> PyResult<MixingMatrix> {
    if is_f64(z) {
        weights::<f64>(z, None, |z, _| matrix.0.clipped(z, radius))
    } else {
        weights::<f32>(z, None, |z, _| matrix.0.clipped(z, radius))
    }
}

#[pyfunction]
pub(crate) fn clipped_beyond(matrix: &MixingMatrix, z: Any, bad: Any) -> PyResult<MixingMatrix> {
    if is_f64(z) {
        weights::<f64>(z, Some(bad), |z, bad| matrix.0.clipped_beyond(z, bad))
    } else {
        weights::<f32>(z, Some(bad), |z, bad| matrix.0.clipped_beyond(z, bad))
    }
}

#[pyfunction]
pub(crate) fn nearest(matrix: &MixingMatrix, z: Any, bad: Any) -> PyResult<MixingMatrix> {
    if is_f64(z) {
        weights::<f64>(z, Some(bad), |z, bad| matrix.0.nearest(z, bad))
    } else {
        weights::<f32>(z, Some(bad), |z, bad| matrix.0.nearest(z, bad))
    }
}

#[pyfunction]
#[pyo3(signature = (matrix, z, bad, average=None))]
pub(crate) fn krum(matrix: &MixingMatrix, z: Any, bad: Any, average: Option<Any>) -> PyResult<MixingMatrix> {
    let average = average.map(|average| integer("average", average)).transpose()?;
    if is_f64(z) {
        weights::<f64>(z, Some(bad), |z, bad| matrix.0.krum(z, bad, average))
    } else {
        weights::<f32>(z, Some(bad), |z, bad| matrix.0.krum(z, bad, average))
    }
}

#[pyfunction]
pub(crate) fn trimmed_mean(matrix: &MixingMatrix, z: Any, x: Any, bad: Any, gamma: f64) -> PyResult<()> {
    if is_f64(x) {
        trimmed_mean_as::<f64>(matrix, z, x, bad, gamma)
    } else {
        trimmed_mean_as::<f32>(matrix, z, x, bad, gamma)
    }
}

fn trimmed_mean_as<T: Real + Into<f64> + PartialOrd + Element + Sync>(
    matrix: &MixingMatrix,
    z: Any,
    x: Any,
    bad: Any,
    gamma: f64,
) -> PyResult<()> {
    mixed::<T, u32>(z, x, Some(("bad", bad)), |z, x, bad| {
        matrix.0.trimmed_mean_into(z, x, bad.unwrap_or(&[]), gamma)
    })
}

#[pyfunction]
pub(crate) fn median(matrix: &MixingMatrix, z: Any, x: Any, gamma: f64) -> PyResult<()> {
    if is_f64(x) {
        mixed::<f64, u32>(z, x, None, |z, x, _| matrix.0.median_into(z, x, gamma))
    } else {
        mixed::<f32, u32>(z, x, None, |z, x, _| matrix.0.median_into(z, x, gamma))
    }
}

#[pyfunction]
#[pyo3(signature = (matrix, z, x, gamma, own=None))]
pub(crate) fn push(matrix: &MixingMatrix, z: Any, x: Any, gamma: f64, own: Option<Any>) -> PyResult<()> {
    if is_f64(x) {
        push_as::<f64>(matrix, z, x, gamma, own)
    } else {
        push_as::<f32>(matrix, z, x, gamma, own)
    }
}

fn push_as<T: Real + Into<f64> + Element + Sync>(
    matrix: &MixingMatrix,
    z: Any,
    x: Any,
    gamma: f64,
    own: Option<Any>,
) -> PyResult<()> {
    mixed::<T, i64>(z, x, own.map(|own| ("own", own)), |z, x, own| match own {
        Some(own) => matrix.0.push_rows_into(z, x, own, gamma),
        None => matrix.0.push_into(z, x, gamma),
    })
}

/// Borrows `z` and `bad` and returns the weights that `rule` gives for them.
fn weights<T: Real + Element + Sync>(
    z: Any,
    bad: Option<Any>,
    rule: impl FnOnce(&[T], &[u32]) -> Weights + Send,
) -> PyResult<MixingMatrix> {
    let z = input::<T, Ix2>("z", z)?;
    let bad = bad.map(|bad| input::<u32, Ix1>("bad", bad)).transpose()?;
    let bad = bad.as_ref().map_or(Ok(&[][..]), |bad| bad.as_slice())?;
    let (py, z) = (z.py(), z.as_slice()?);
    run(py, || rule(z, bad)).map(MixingMatrix)
}

/// Borrows `z`, `x` and what there is a number of for each row of `x`, and lets `rule` change `x`.
fn mixed<T: Real + Element + Sync, U: Element + Sync>(
    z: Any,
    x: Any,
    per_row: Option<(&'static str, Any)>,
    rule: impl FnOnce(&[T], &mut [T], Option<&[U]>) -> declora_core::Result<()> + Send,
) -> PyResult<()> {
    let (z, mut x) = (input::<T, Ix2>("z", z)?, output::<T, Ix2>("x", x)?);
    apart(("z", &z), ("x", &x))?;
    let per_row =
        per_row.map(|(name, array)| input::<U, Ix1>(name, array).map(|array| (name, array))).transpose()?;
    if let Some((name, array)) = &per_row {
        apart((name, array), ("x", &x))?;
    }
    let per_row = per_row.as_ref().map(|(_, array)| array.as_slice()).transpose()?;
    let py = x.py();
    let (z, x) = (z.as_slice()?, x.as_slice_mut()?);
    run(py, || rule(z, x, per_row))
}
