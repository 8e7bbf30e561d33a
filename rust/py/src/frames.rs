//! The frames of a round, and the proof that they were checked.

use declora_core::{Batch, Fault, Foreign, Frames};
use numpy::{Ix1, Ix2, PyArray1, PyArray2, PyReadonlyArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{apart, input, integer, output, sixteen};
use crate::codec::Codec;
use crate::error::{ConfigError, raise};
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
    let (round, senders) = (input::<u64, Ix1>("round", round)?, input::<u32, Ix1>("senders", senders)?);
    let (x, mut out) = (input::<f32, Ix2>("x", x)?, output::<u8, Ix2>("out", out)?);
    apart(("x", &x), ("out", &out))?;
    apart(("round", &round), ("out", &out))?;
    apart(("senders", &senders), ("out", &out))?;
    let batch = Batch {
        codec: &codec.0,
        columns: x.shape()[1],
        run_id: sixteen("run_id", run_id)?,
        manifest: sixteen("manifest", manifest)?,
        rounds: round.as_slice()?,
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
) -> PyResult<CheckedFrames> {
    let frames = input::<u8, Ix2>("frames", frames)?;
    let (round, senders) = (input::<u64, Ix1>("round", round)?, input::<u32, Ix1>("senders", senders)?);
    let batch = Batch {
        codec: &codec.0,
        columns: integer("d", d)?,
        run_id: sixteen("run_id", run_id)?,
        manifest: sixteen("manifest", manifest)?,
        rounds: round.as_slice()?,
        senders: senders.as_slice()?,
    };
    let (have, need) = (batch.senders.len(), frames.shape()[0]);
    if have != need {
        return Err(raise(declora_core::Error::Length { field: "senders", have, need }));
    }
    let (py, bytes) = (frames.py(), frames.as_slice()?);
    let faults = run(py, || Ok(declora_core::check_frames(&batch, bytes)?.faults().to_vec()))?;
    let (codec, columns, array) = (codec.0.clone(), batch.columns, (*frames).clone());
    drop(frames);
    let locks = array.getattr("flags")?.getattr("writeable")?.extract()?;
    let checked = CheckedFrames { codec, columns, array: array.unbind(), faults, locks };
    checked.set_writeable(py, false)?;
    Ok(checked)
}

/// What was found, and the array that keeps its bytes. It is read-only meanwhile: bytes that were changed after the
/// check would not be those that were checked.
#[pyclass(frozen, module = "declora._core")]
pub(crate) struct CheckedFrames {
    codec: declora_core::Codec,
    columns: usize,
    array: Py<PyArray2<u8>>,
    faults: Vec<Option<Fault>>,
    /// Whether the array was writeable before.
    locks: bool,
}

#[pymethods]
impl CheckedFrames {
    fn __len__(&self) -> usize {
        self.faults.len()
    }

    #[getter]
    fn refused<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        PyArray1::from_iter(py, self.faults.iter().map(Option::is_some))
    }

    #[getter]
    fn faults(&self) -> Faults {
        let faults = self.faults.iter().enumerate();
        faults.filter_map(|(row, fault)| Some((row, fault.as_ref()?.to_string()))).collect()
    }

    fn __repr__(&self) -> String {
        let refused = self.faults.iter().flatten().count();
        format!("CheckedFrames(frames={}, refused={refused})", self.faults.len())
    }
}

impl CheckedFrames {
    /// The array, borrowed for one call.
    pub(crate) fn bytes<'py>(&self, py: Python<'py>) -> PyResult<PyReadonlyArray<'py, u8, Ix2>> {
        input("frames", self.array.bind(py))
    }

    /// Checks that a row of an array has as many numbers as a frame.
    pub(crate) fn check_columns(&self, name: &str, have: usize) -> PyResult<()> {
        if have == self.columns {
            return Ok(());
        }
        let need = self.columns;
        Err(ConfigError::new_err(format!(
            "{name} has {have} columns, but each of the frames has {need} numbers."
        )))
    }

    /// The core's own proof, of the bytes of [`CheckedFrames::bytes`].
    pub(crate) fn again<'a>(&'a self, bytes: &'a [u8]) -> PyResult<declora_core::CheckedFrames<'a>> {
        declora_core::CheckedFrames::again(&self.codec, self.columns, bytes, &self.faults).map_err(raise)
    }

    fn set_writeable(&self, py: Python<'_>, writeable: bool) -> PyResult<()> {
        if !self.locks {
            return Ok(());
        }
        self.array.bind(py).getattr("flags")?.setattr("writeable", writeable)
    }
}

impl Drop for CheckedFrames {
    fn drop(&mut self) {
        // An array that cannot be made writeable again stays as it is.
        let _ = Python::attach(|py| self.set_writeable(py, true));
    }
}

#[pyfunction]
pub(crate) fn decode_frames(frames: &Bound<'_, CheckedFrames>, out: &Bound<'_, PyAny>) -> PyResult<()> {
    let (checked, py) = (frames.get(), frames.py());
    let (bytes, mut out) = (checked.bytes(py)?, output::<f32, Ix2>("out", out)?);
    apart(("frames", &bytes), ("out", &out))?;
    checked.check_columns("out", out.shape()[1])?;
    let frames = checked.again(bytes.as_slice()?)?;
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

/// The rows that were refused, each with the reason.
type Faults = Vec<(usize, String)>;

#[pyfunction]
#[pyo3(signature = (frames, lens, *, run_id, manifest, round, senders))]
pub(crate) fn seal_frames(
    frames: &Bound<'_, PyAny>,
    lens: &Bound<'_, PyAny>,
    run_id: &[u8],
    manifest: &[u8],
    round: &Bound<'_, PyAny>,
    senders: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (round, senders) = (input::<u64, Ix1>("round", round)?, input::<u32, Ix1>("senders", senders)?);
    let (lens, mut frames) = (input::<u64, Ix1>("lens", lens)?, output::<u8, Ix2>("frames", frames)?);
    apart(("lens", &lens), ("frames", &frames))?;
    apart(("round", &round), ("frames", &frames))?;
    apart(("senders", &senders), ("frames", &frames))?;
    let batch = Foreign {
        payload_len: payload_len(frames.shape())?,
        run_id: sixteen("run_id", run_id)?,
        manifest: sixteen("manifest", manifest)?,
        rounds: round.as_slice()?,
        senders: senders.as_slice()?,
    };
    let py = frames.py();
    let (lens, frames) = (lens.as_slice()?, frames.as_slice_mut()?);
    run(py, || declora_core::seal_frames(&batch, frames, lens))
}

#[pyfunction]
#[pyo3(signature = (frames, *, run_id, manifest, round, senders))]
pub(crate) fn open_frames<'py>(
    frames: &Bound<'py, PyAny>,
    run_id: &[u8],
    manifest: &[u8],
    round: &Bound<'_, PyAny>,
    senders: &Bound<'_, PyAny>,
) -> PyResult<(Bound<'py, PyArray1<i64>>, Faults)> {
    let frames = input::<u8, Ix2>("frames", frames)?;
    let (round, senders) = (input::<u64, Ix1>("round", round)?, input::<u32, Ix1>("senders", senders)?);
    let batch = Foreign {
        payload_len: payload_len(frames.shape())?,
        run_id: sixteen("run_id", run_id)?,
        manifest: sixteen("manifest", manifest)?,
        rounds: round.as_slice()?,
        senders: senders.as_slice()?,
    };
    let (py, bytes) = (frames.py(), frames.as_slice()?);
    let opened = run(py, || declora_core::open_frames(&batch, bytes))?;
    // Lengths of slices: below 2^63.
    let lens = opened.iter().map(|found| found.as_ref().map_or(0, |&len| len as i64));
    let lens = PyArray1::from_iter(py, lens);
    let faults = opened.iter().enumerate();
    let faults = faults.filter_map(|(row, found)| Some((row, found.as_ref().err()?.to_string()))).collect();
    Ok((lens, faults))
}

#[pyfunction]
pub(crate) fn sealed_bytes<'py>(frames: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let frames = input::<u8, Ix2>("frames", frames)?;
    payload_len(frames.shape())?;
    let lens = declora_core::sealed_lens(frames.as_slice()?, frames.shape()[0]).map_err(raise)?;
    // Lengths of slices: below 2^63.
    Ok(PyArray1::from_iter(frames.py(), lens.into_iter().map(|len| len as i64)))
}

/// The most bytes of the payload of frames of this shape.
fn payload_len(shape: &[usize]) -> PyResult<usize> {
    let [_, bytes] = shape else { return Ok(0) };
    let header = declora_core::frame::HEADER_LEN;
    bytes.checked_sub(header).ok_or_else(|| {
        ConfigError::new_err(format!("frames has rows of {bytes} bytes, but a header alone has {header}."))
    })
}
