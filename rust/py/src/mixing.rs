//! The classes `MixingMatrix` and `Average`.

use declora_core::Mixed;
use numpy::{Element, Ix1, Ix2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, is_f64, output};
use crate::error::{ConfigError, raise};
use crate::frames::CheckedFrames;
use crate::threads::run;

#[pyclass(frozen, module = "declora._core")]
pub(crate) struct MixingMatrix(pub(crate) declora_core::MixingMatrix);

#[pymethods]
impl MixingMatrix {
    #[new]
    #[pyo3(signature = (indptr, indices, weights, known=None, own=None))]
    fn new(
        indptr: &Bound<'_, PyAny>,
        indices: &Bound<'_, PyAny>,
        weights: &Bound<'_, PyAny>,
        known: Option<&Bound<'_, PyAny>>,
        own: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (indptr, indices) =
            (input::<i64, Ix1>("indptr", indptr)?, input::<i64, Ix1>("indices", indices)?);
        let weights = input::<f64, Ix1>("weights", weights)?;
        let (indptr, indices, weights) = (indptr.as_slice()?, indices.as_slice()?, weights.as_slice()?);
        let rows = indptr.len().saturating_sub(1);
        let known = known.map_or(Ok(rows), |known| integer("known", known))?;
        let own = own.map(|own| input::<i64, Ix1>("own", own)).transpose()?;
        let first: Vec<i64>;
        let own = match &own {
            Some(own) => own.as_slice()?,
            None => {
                first = (0..rows as i64).collect(); // the length of an array: no overflow
                &first
            }
        };
        declora_core::MixingMatrix::rectangle(indptr, indices, weights, known, own).map(Self).map_err(raise)
    }

    #[getter]
    fn local(&self) -> usize {
        self.0.local()
    }

    #[getter]
    fn known(&self) -> usize {
        self.0.known()
    }

    #[getter]
    fn nnz(&self) -> usize {
        self.0.nnz()
    }

    fn mix(&self, z: &Bound<'_, PyAny>, x: &Bound<'_, PyAny>, gamma: f64) -> PyResult<()> {
        if is_f64(x) { self.mix_as::<f64>(z, x, gamma) } else { self.mix_as::<f32>(z, x, gamma) }
    }

    fn mix_in_place(&self, x: &Bound<'_, PyAny>, gamma: f64) -> PyResult<()> {
        if is_f64(x) { self.mix_in_place_as::<f64>(x, gamma) } else { self.mix_in_place_as::<f32>(x, gamma) }
    }

    fn mix_frames(
        &self,
        frames: &Bound<'_, CheckedFrames>,
        x: &Bound<'_, PyAny>,
        gamma: f64,
    ) -> PyResult<()> {
        moved_by(frames, x, |frames, x| self.0.mix_frames(frames, x, gamma))
    }

    fn __repr__(&self) -> String {
        format!("MixingMatrix(local={}, known={}, nnz={})", self.0.local(), self.0.known(), self.0.nnz())
    }
}

impl MixingMatrix {
    fn mix_as<T: Mixed + Element>(
        &self,
        z: &Bound<'_, PyAny>,
        x: &Bound<'_, PyAny>,
        gamma: f64,
    ) -> PyResult<()> {
        let (z, mut x) = (input::<T, Ix2>("z", z)?, output::<T, Ix2>("x", x)?);
        apart(("z", &z), ("x", &x))?;
        let py = x.py();
        let (z, x) = (z.as_slice()?, x.as_slice_mut()?);
        run(py, || self.0.mix_into(z, x, gamma))
    }

    fn mix_in_place_as<T: Mixed + Element>(&self, x: &Bound<'_, PyAny>, gamma: f64) -> PyResult<()> {
        let mut x = output::<T, Ix2>("x", x)?;
        let py = x.py();
        let x = x.as_slice_mut()?;
        run(py, || self.0.mix_in_place(x, gamma))
    }
}

#[pyclass(frozen, module = "declora._core")]
pub(crate) struct Average(declora_core::Average);

#[pymethods]
impl Average {
    #[new]
    #[pyo3(signature = (weights, home=0.0))]
    fn new(weights: &Bound<'_, PyAny>, home: f64) -> PyResult<Self> {
        let weights = input::<f64, Ix1>("weights", weights)?;
        declora_core::Average::new(weights.as_slice()?, home).map(Self).map_err(raise)
    }

    #[getter]
    fn known(&self) -> usize {
        self.0.known()
    }

    fn mix(
        &self,
        z: &Bound<'_, PyAny>,
        x: &Bound<'_, PyAny>,
        gamma: f64,
        first: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let first = integer("first", first)?;
        let (z, mut x) = (input::<f32, Ix2>("z", z)?, output::<f32, Ix2>("x", x)?);
        apart(("z", &z), ("x", &x))?;
        let (rows, weights) = (z.shape()[0], self.0.known());
        if rows != weights {
            return Err(ConfigError::new_err(format!("z has {rows} rows, but there are {weights} weights.")));
        }
        let (have, need) = (x.shape()[1], z.shape()[1]);
        if have != need {
            return Err(ConfigError::new_err(format!("x has {have} columns, but z has {need}.")));
        }
        let py = x.py();
        let (z, x) = (z.as_slice()?, x.as_slice_mut()?);
        run(py, || self.0.mix_into(z, x, first, gamma))
    }

    fn mix_frames(
        &self,
        frames: &Bound<'_, CheckedFrames>,
        x: &Bound<'_, PyAny>,
        gamma: f64,
        first: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let first = integer("first", first)?;
        moved_by(frames, x, |frames, x| self.0.mix_frames(frames, x, first, gamma))
    }

    fn __repr__(&self) -> String {
        format!("Average(known={})", self.0.known())
    }
}

/// Moves the rows of `x` by what frames hold.
fn moved_by(
    frames: &Bound<'_, CheckedFrames>,
    x: &Bound<'_, PyAny>,
    work: impl FnOnce(&declora_core::CheckedFrames<'_>, &mut [f32]) -> declora_core::Result<()> + Send,
) -> PyResult<()> {
    let (checked, py) = (frames.get(), frames.py());
    let (bytes, mut x) = (checked.bytes(py)?, output::<f32, Ix2>("x", x)?);
    apart(("frames", &bytes), ("x", &x))?;
    checked.check_columns("x", x.shape()[1])?;
    let frames = checked.again(bytes.as_slice()?)?;
    let x = x.as_slice_mut()?;
    run(py, || work(&frames, x))
}
