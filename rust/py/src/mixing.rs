//! The class `MixingMatrix`.

use declora_core::Mixed;
use numpy::{Element, Ix1, Ix2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{apart, input, is_f64, output};
use crate::error::raise;
use crate::frames::CheckedFrames;
use crate::threads::run;

#[pyclass(frozen, module = "declora._core")]
pub(crate) struct MixingMatrix(pub(crate) declora_core::MixingMatrix);

#[pymethods]
impl MixingMatrix {
    #[new]
    fn new(
        indptr: &Bound<'_, PyAny>,
        indices: &Bound<'_, PyAny>,
        weights: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let (indptr, indices) =
            (input::<i64, Ix1>("indptr", indptr)?, input::<i64, Ix1>("indices", indices)?);
        let weights = input::<f64, Ix1>("weights", weights)?;
        declora_core::MixingMatrix::new(indptr.as_slice()?, indices.as_slice()?, weights.as_slice()?)
            .map(Self)
            .map_err(raise)
    }

    #[getter]
    fn clients(&self) -> usize {
        self.0.clients()
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
        let (checked, py) = (frames.get(), frames.py());
        let (bytes, mut x) = (checked.bytes(py)?, output::<f32, Ix2>("x", x)?);
        apart(("frames", &bytes), ("x", &x))?;
        checked.check_columns("x", x.shape()[1])?;
        let frames = checked.again(bytes.as_slice()?)?;
        let x = x.as_slice_mut()?;
        run(py, || self.0.mix_frames(&frames, x, gamma))
    }

    fn __repr__(&self) -> String {
        format!("MixingMatrix(clients={}, nnz={})", self.0.clients(), self.0.nnz())
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
