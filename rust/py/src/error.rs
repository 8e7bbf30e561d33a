//! Core errors as classes of `declora.errors`.

use declora_core::Error;
use pyo3::prelude::*;

pyo3::import_exception!(declora.errors, CodecError);
pyo3::import_exception!(declora.errors, ConfigError);
pyo3::import_exception!(declora.errors, FrameError);
pyo3::import_exception!(declora.errors, TopologyError);

/// Returns the Python exception that says the same.
pub(crate) fn raise(error: Error) -> PyErr {
    match &error {
        Error::UnknownCodec { name, known } => Python::attach(|py| unknown_name(py, "codec", name, known)),
        Error::UnknownOption { option, known, .. } if !known.is_empty() => {
            Python::attach(|py| unknown_name(py, "codec option", option, known))
        }
        Error::UnknownStage { stage } => {
            Python::attach(|py| unknown_name(py, "codec stage", stage, &["rans"]))
        }
        Error::UnknownOption { .. } | Error::CodecSetting { .. } | Error::Value { .. } => {
            CodecError::new_err(error.to_string())
        }
        Error::Matrix { .. } => TopologyError::new_err(error.to_string()),
        Error::Frame { .. } => FrameError::new_err(error.to_string()),
        _ => ConfigError::new_err(error.to_string()),
    }
}

/// The message of `declora.errors.unknown_name`, which also shows the nearest name.
fn unknown_name(py: Python<'_>, field: &str, name: &str, known: &[&str]) -> PyErr {
    py.import("declora.errors")
        .and_then(|errors| errors.call_method1("unknown_name", (field, name, known.to_vec())))
        .map_or_else(|error| error, PyErr::from_value)
}
