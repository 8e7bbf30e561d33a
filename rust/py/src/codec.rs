//! The class `Codec`.

use declora_core::Stream;
use numpy::Ix1;
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, output};
use crate::error::{ConfigError, raise};
use crate::threads::run;

#[pyclass(frozen, eq, hash, module = "declora._core")]
#[derive(Clone, PartialEq)]
pub(crate) struct Codec(pub(crate) declora_core::Codec);

impl std::hash::Hash for Codec {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_string().hash(state);
    }
}

#[pymethods]
impl Codec {
    #[new]
    #[pyo3(signature = (spec, *, shapes=Vec::new()))]
    fn new(spec: &str, #[pyo3(from_py_with = shapes)] shapes: Vec<(usize, usize)>) -> PyResult<Self> {
        let codec = spec.parse::<declora_core::Codec>().and_then(|codec| codec.with_shapes(&shapes));
        codec.map(Self).map_err(raise)
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
    fn id(&self) -> u32 {
        self.0.id()
    }

    #[getter]
    fn unbiased(&self) -> bool {
        self.0.unbiased()
    }

    #[getter]
    fn keeps_product(&self) -> bool {
        self.0.keeps_product()
    }

    #[getter]
    fn elements(&self) -> Option<usize> {
        self.0.elements()
    }

    #[getter]
    fn needs_memory(&self) -> bool {
        self.0.needs_memory()
    }

    #[getter]
    fn variable_length(&self) -> bool {
        self.0.variable_length()
    }

    fn error_bound(&self, n: &Bound<'_, PyAny>) -> PyResult<f64> {
        Ok(self.0.error_bound(integer("n", n)?))
    }

    fn limit(&self, n: &Bound<'_, PyAny>) -> PyResult<f32> {
        Ok(self.0.limit(integer("n", n)?))
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
    ) -> PyResult<usize> {
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

    fn decode_add(&self, payload: &Bound<'_, PyAny>, out: &Bound<'_, PyAny>, weight: f32) -> PyResult<()> {
        let (payload, mut out) = (input::<u8, Ix1>("payload", payload)?, output::<f32, Ix1>("out", out)?);
        apart(("payload", &payload), ("out", &out))?;
        let py = out.py();
        let (payload, out) = (payload.as_slice()?, out.as_slice_mut()?);
        run(py, || self.0.decode_add_into(payload, weight, out))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Codec({:?})", self.0.to_string())
    }
}

#[pyfunction]
pub(crate) fn codec_options() -> Vec<(&'static str, Vec<&'static str>)> {
    let names = declora_core::Codec::NAMES.into_iter();
    names.filter_map(|name| Some((name, declora_core::Codec::options(name)?))).collect()
}

fn shapes(value: &Bound<'_, PyAny>) -> PyResult<Vec<(usize, usize)>> {
    value.extract().map_err(|_| {
        let text = value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
        ConfigError::new_err(format!("shapes={text} must be a list of (rows, columns), all at least 0."))
    })
}
