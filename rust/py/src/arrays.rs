//! Borrows of arguments; whatever does not fit is refused with its name, what it is, and the fix.

use std::ops::Range;

use numpy::ndarray::Dimension;
use numpy::{
    BorrowError, Element, PyArray, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray, PyReadwriteArray,
    PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::prelude::*;

use crate::error::ConfigError;

/// Returns an array that is only read.
pub(crate) fn input<'py, T: Element, D: Dimension>(
    name: &str,
    value: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray<'py, T, D>> {
    typed::<T, D>(name, value)?.try_readonly().map_err(|_| in_use(name))
}

/// Returns an array that is written.
pub(crate) fn output<'py, T: Element, D: Dimension>(
    name: &str,
    value: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArray<'py, T, D>> {
    typed::<T, D>(name, value)?.try_readwrite().map_err(|error| match error {
        BorrowError::NotWriteable => {
            ConfigError::new_err(format!("{name} is read-only, but it is written; pass {name}.copy()."))
        }
        _ => in_use(name),
    })
}

fn in_use(name: &str) -> PyErr {
    ConfigError::new_err(format!(
        "{name} overlaps another argument or is in use by a call on another thread; pass an array of its own."
    ))
}

fn typed<'a, 'py, T: Element, D: Dimension>(
    name: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyArray<T, D>>> {
    let wanted = dtype::<T>(value.py());
    let dimensions = D::NDIM.unwrap_or(0);
    let refuse = |what: String, fix: &str| {
        let wanted = format!("C-contiguous {dimensions}-dimensional numpy array of {wanted}");
        ConfigError::new_err(format!("{name} {what}, but must be a {wanted}{fix}."))
    };
    let array = value.cast::<PyUntypedArray>().or_else(|_| {
        Err(refuse(format!("is a {}", value.get_type().name()?), "; use numpy.ascontiguousarray"))
    })?;
    if !array.dtype().is_equiv_to(&wanted) {
        return Err(refuse(
            format!("has dtype {}", array.dtype()),
            &format!("; use {name}.astype(\"{wanted}\")"),
        ));
    }
    if array.ndim() != dimensions {
        return Err(refuse(format!("has shape {:?}", array.shape()), "; use reshape"));
    }
    if !array.is_c_contiguous() {
        return Err(refuse("is not contiguous".to_owned(), "; use numpy.ascontiguousarray"));
    }
    let array = value.cast::<PyArray<T, D>>()?;
    if !array.data().is_aligned() {
        return Err(refuse("is not aligned in memory".to_owned(), &format!("; use {name}.copy()")));
    }
    Ok(array)
}

/// Checks that an array that is read and one that is written share no memory.
pub(crate) fn apart<'py, T: Element, D: Dimension, U: Element, E: Dimension>(
    (read_name, read): (&'static str, &PyReadonlyArray<'py, T, D>),
    (written_name, written): (&'static str, &PyReadwriteArray<'py, U, E>),
) -> PyResult<()> {
    all_apart(&[extent(read_name, read)], &[extent(written_name, written)])
}

/// Where an argument is in memory.
#[derive(Clone)]
pub(crate) struct Extent(&'static str, Range<usize>);

/// Returns the addresses of a contiguous array.
pub(crate) fn extent<T: Element, D: Dimension>(
    name: &'static str,
    array: &Bound<'_, PyArray<T, D>>,
) -> Extent {
    let start = array.data().addr();
    Extent(name, start..start + array.len() * size_of::<T>()) // an array in memory: no overflow
}

/// Checks that what is written shares no memory with what is read, nor with what else is written.
///
/// The borrows above see this for numpy's own views, but not for two tensors of one torch storage.
pub(crate) fn all_apart(read: &[Extent], written: &[Extent]) -> PyResult<()> {
    for (at, Extent(name, own)) in written.iter().enumerate() {
        for Extent(other_name, other) in read.iter().chain(&written[..at]) {
            if other.start < own.end && own.start < other.end {
                return Err(ConfigError::new_err(format!(
                    "{name} overlaps {other_name} in memory; pass an array of its own."
                )));
            }
        }
    }
    Ok(())
}

/// Whether an argument is an array of doubles, for the functions that take both kinds of floats.
pub(crate) fn is_f64(value: &Bound<'_, PyAny>) -> bool {
    value.cast::<PyUntypedArray>().is_ok_and(|array| array.dtype().is_equiv_to(&dtype::<f64>(value.py())))
}

/// Returns an integer in the range of `T`.
pub(crate) fn integer<'py, T>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: FromPyObjectOwned<'py> + Limits,
{
    value.extract().map_err(|_| {
        let text = value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
        ConfigError::new_err(format!("{name}={text} must be an integer from 0 to 2^{} - 1.", T::BITS))
    })
}

pub(crate) trait Limits {
    const BITS: u32;
}

macro_rules! limits {
    ($($type:ident)*) => { $(impl Limits for $type { const BITS: u32 = $type::BITS; })* };
}
limits!(u16 u32 u64 usize);

/// Returns the 16 bytes of a run id or manifest hash.
pub(crate) fn sixteen(name: &str, bytes: &[u8]) -> PyResult<[u8; 16]> {
    bytes
        .try_into()
        .map_err(|_| ConfigError::new_err(format!("{name} has {} bytes; it must have 16.", bytes.len())))
}
