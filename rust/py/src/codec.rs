//! The class `Codec`.

use declora_core::Stream;
use numpy::Ix1;
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, output};
use crate::error::raise;
use crate::threads::run;

#[pyclass(frozen, eq, hash, module = "declora._core")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec(pub(crate) declora_core::Codec);

impl std::hash::Hash for Codec {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.id(), self.0.block()).hash(state);
    }
}

#[pymethods]
impl Codec {
    #[new]
    #[pyo3(signature = (name, *, block=256, norm="max"))]
    fn new(name: &str, #[pyo3(from_py_with = block)] block: usize, norm: &str) -> PyResult<Self> {
        declora_core::Codec::new(name, block, norm).map(Self).map_err(raise)
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }

    #[getter]
    fn block(&self) -> u32 {
        self.0.block()
    }

    #[getter]
    fn norm(&self) -> &'static str {
        self.0.norm().map_or("none", declora_core::Norm::name)
    }

    #[getter]
    fn id(&self) -> u32 {
        self.0.id()
    }

    #[getter]
    fn unbiased(&self) -> bool {
        self.0.unbiased()
    }

    #[getter]
    fn memory_free(&self) -> bool {
        self.0.memory_free()
    }

    fn payload_bytes(&self, n: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.0.payload_len(integer("n", n)?).map_err(raise)
    }

    #[pyo3(signature = (x, out, *, seed, round, client))]
    fn encode(
        &self,
        x: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        seed: &Bound<'_, PyAny>,
        round: &Bound<'_, PyAny>,
        client: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (x, mut out) = (input::<f32, Ix1>("x", x)?, output::<u8, Ix1>("out", out)?);
        apart(("x", &x), ("out", &out))?;
        let stream =
            Stream::quantizer(integer("seed", seed)?, integer("round", round)?, integer("client", client)?);
        let py = out.py();
        let (x, out) = (x.as_slice()?, out.as_slice_mut()?);
        run(py, || self.0.encode_into(x, out, &stream))
    }

    fn decode(&self, payload: &Bound<'_, PyAny>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let (payload, mut out) = (input::<u8, Ix1>("payload", payload)?, output::<f32, Ix1>("out", out)?);
        apart(("payload", &payload), ("out", &out))?;
        let py = out.py();
        let (payload, out) = (payload.as_slice()?, out.as_slice_mut()?);
        run(py, || self.0.decode_into(payload, out))
    }

    fn __repr__(&self) -> String {
        match self.0.norm() {
            Some(norm) => {
                format!("Codec({:?}, block={}, norm={:?})", self.0.name(), self.0.block(), norm.name())
            }
            None => format!("Codec({:?})", self.0.name()),
        }
    }
}

fn block(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    integer("block", value)
}
