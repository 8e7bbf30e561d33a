//! Functions on arrays that belong to no class.

use numpy::{Ix1, Ix2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, output};
use crate::threads::run;

#[pyfunction]
pub(crate) fn consensus_distance(x: &Bound<'_, PyAny>) -> PyResult<f64> {
    let x = input::<f32, Ix2>("x", x)?;
    let (py, rows, x) = (x.py(), x.shape()[0], x.as_slice()?);
    run(py, || declora_core::consensus_distance(x, rows))
}

#[pyfunction]
pub(crate) fn product_distance(
    x: &Bound<'_, PyAny>,
    layers: &Bound<'_, PyAny>,
    scalings: &Bound<'_, PyAny>,
) -> PyResult<f64> {
    let (x, layers) = (input::<f32, Ix2>("x", x)?, input::<u64, Ix2>("layers", layers)?);
    let scalings = input::<f64, Ix1>("scalings", scalings)?;
    let (py, rows) = (x.py(), x.shape()[0]);
    let (x, layers, scalings) = (x.as_slice()?, layers.as_slice()?, scalings.as_slice()?);
    run(py, || declora_core::product_distance(x, rows, &declora_core::Factors::of_rows(layers, scalings)?))
}

#[pyfunction]
#[pyo3(signature = (out, *, rate, seed, step, clients, samples))]
pub(crate) fn dropout_mask(
    out: &Bound<'_, PyAny>,
    rate: f64,
    seed: &Bound<'_, PyAny>,
    step: &Bound<'_, PyAny>,
    clients: &Bound<'_, PyAny>,
    samples: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (clients, samples) = (input::<u32, Ix1>("clients", clients)?, input::<u32, Ix1>("samples", samples)?);
    let mut out = output::<f32, Ix2>("out", out)?;
    apart(("clients", &clients), ("out", &out))?;
    apart(("samples", &samples), ("out", &out))?;
    let draws = (integer("seed", seed)?, integer("step", step)?);
    let py = out.py();
    let (out, clients, samples) = (out.as_slice_mut()?, clients.as_slice()?, samples.as_slice()?);
    run(py, || declora_core::dropout_mask_into(out, rate, draws, clients, samples))
}

#[pyfunction]
pub(crate) fn crc32c(data: &Bound<'_, PyAny>) -> PyResult<u32> {
    let data = input::<u8, Ix1>("data", data)?;
    let (py, data) = (data.py(), data.as_slice()?);
    run(py, || Ok(declora_core::crc32c(data)))
}

#[pyfunction]
pub(crate) fn level() -> &'static str {
    declora_core::Level::current().name()
}

#[pyfunction]
pub(crate) fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> (u32, u32, u32, u32) {
    declora_core::philox4x32_10(counter, key).into()
}
