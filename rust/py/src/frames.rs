//! The frames of all clients of a round.

use declora_core::{Batch, Frames};
use numpy::{Ix1, Ix2, PyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, output, sixteen};
use crate::codec::Codec;
use crate::error::raise;
use crate::threads::run;

#[pyfunction]
#[pyo3(signature = (codec, x, out, *, run_id, manifest, round, senders, seed))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn encode_frames(
    codec: &Codec,
    x: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
    run_id: &[u8],
    manifest: &[u8],
    round: &Bound<'_, PyAny>,
    senders: &Bound<'_, PyAny>,
    seed: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (x, senders) = (input::<f32, Ix2>("x", x)?, input::<u32, Ix1>("senders", senders)?);
    let mut out = output::<u8, Ix2>("out", out)?;
    apart(("x", &x), ("out", &out))?;
    apart(("senders", &senders), ("out", &out))?;
    let batch = Batch {
        codec: &codec.0,
        columns: x.shape()[1],
        run_id: sixteen("run_id", run_id)?,
        manifest: sixteen("manifest", manifest)?,
        round: integer("round", round)?,
        senders: senders.as_slice()?,
    };
    let seed = integer("seed", seed)?;
    let py = out.py();
    let (x, out) = (x.as_slice()?, out.as_slice_mut()?);
    run(py, || declora_core::encode_frames(&batch, x, out, seed))
}

#[pyfunction]
#[pyo3(signature = (codec, frames, d, *, run_id, manifest, round, senders))]
pub(crate) fn check_frames(
    codec: &Codec,
    frames: &Bound<'_, PyAny>,
    d: &Bound<'_, PyAny>,
    run_id: &[u8],
    manifest: &[u8],
    round: &Bound<'_, PyAny>,
    senders: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (frames, senders) = (input::<u8, Ix2>("frames", frames)?, input::<u32, Ix1>("senders", senders)?);
    let batch = Batch {
        codec: &codec.0,
        columns: integer("d", d)?,
        run_id: sixteen("run_id", run_id)?,
        manifest: sixteen("manifest", manifest)?,
        round: integer("round", round)?,
        senders: senders.as_slice()?,
    };
    let (py, frames) = (frames.py(), frames.as_slice()?);
    run(py, || declora_core::check_frames(&batch, frames))
}

#[pyfunction]
pub(crate) fn decode_frames(
    codec: &Codec,
    frames: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (frames, mut out) = (input::<u8, Ix2>("frames", frames)?, output::<f32, Ix2>("out", out)?);
    apart(("frames", &frames), ("out", &out))?;
    let (py, columns) = (out.py(), out.shape()[1]);
    let frames = Frames::new(&codec.0, frames.as_slice()?, frames.shape()[0], columns).map_err(raise)?;
    let out = out.as_slice_mut()?;
    run(py, || declora_core::decode_frames(&frames, out))
}

#[pyfunction]
pub(crate) fn frame_bytes<'py>(
    codec: &Codec,
    frames: &Bound<'py, PyAny>,
    d: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let array = input::<u8, Ix2>("frames", frames)?;
    let frames =
        Frames::new(&codec.0, array.as_slice()?, array.shape()[0], integer("d", d)?).map_err(raise)?;
    // Lengths of slices: below 2^63.
    Ok(PyArray1::from_iter(array.py(), frames.lens().map(|len| len as i64)))
}
