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
        mixed::<f64>(z, x, Some(bad), |z, x, bad| matrix.0.trimmed_mean_into(z, x, bad, gamma))
    } else {
        mixed::<f32>(z, x, Some(bad), |z, x, bad| matrix.0.trimmed_mean_into(z, x, bad, gamma))
    }
}

#[pyfunction]
pub(crate) fn median(matrix: &MixingMatrix, z: Any, x: Any, gamma: f64) -> PyResult<()> {
    if is_f64(x) {
        mixed::<f64>(z, x, None, |z, x, _| matrix.0.median_into(z, x, gamma))
    } else {
        mixed::<f32>(z, x, None, |z, x, _| matrix.0.median_into(z, x, gamma))
    }
}

#[pyfunction]
pub(crate) fn push(matrix: &MixingMatrix, z: Any, x: Any, gamma: f64) -> PyResult<()> {
    if is_f64(x) {
        mixed::<f64>(z, x, None, |z, x, _| matrix.0.push_into(z, x, gamma))
    } else {
        mixed::<f32>(z, x, None, |z, x, _| matrix.0.push_into(z, x, gamma))
    }
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

/// Borrows `z`, `x` and `bad` and lets `rule` change `x`.
fn mixed<T: Real + Element + Sync>(
    z: Any,
    x: Any,
    bad: Option<Any>,
    rule: impl FnOnce(&[T], &mut [T], &[u32]) -> declora_core::Result<()> + Send,
) -> PyResult<()> {
    let (z, mut x) = (input::<T, Ix2>("z", z)?, output::<T, Ix2>("x", x)?);
    apart(("z", &z), ("x", &x))?;
    let bad = bad.map(|bad| input::<u32, Ix1>("bad", bad)).transpose()?;
    bad.as_ref().map_or(Ok(()), |bad| apart(("bad", bad), ("x", &x)))?;
    let bad = bad.as_ref().map_or(Ok(&[][..]), |bad| bad.as_slice())?;
    let py = x.py();
    let (z, x) = (z.as_slice()?, x.as_slice_mut()?);
    run(py, || rule(z, x, bad))
}
