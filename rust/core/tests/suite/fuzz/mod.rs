//! What must hold whatever the input is: the bodies of the fuzz targets.
//!
//! `rust/fuzz` lets libFuzzer look for inputs that break them, `hostile.rs` runs them on random ones with every test run.
//! Each reads its case from the bytes of an [`Unstructured`], which gives zeros, or an error, where they have run out.

pub mod bound;
mod case;
mod frame;
mod matrix;
mod payload;
mod robust;
mod round_trip;
pub mod spec;

use arbitrary::Unstructured;

/// A property: it panics where it does not hold.
pub type Property = fn(&mut Unstructured<'_>) -> arbitrary::Result<()>;

/// All of them, by the name of the fuzz target.
pub const PROPERTIES: [(&str, Property); 5] = [
    ("frame", frame::frame),
    ("payload", payload::payload),
    ("round_trip", round_trip::round_trip),
    ("matrix", matrix::matrix),
    ("robust", robust::robust),
];

/// Runs the property of this name on the case that `data` stands for, if it has enough bytes for one.
pub fn run(name: &str, data: &[u8]) {
    let property = PROPERTIES.iter().find(|(known, _)| *known == name).map(|(_, property)| property).unwrap();
    let _ = property(&mut Unstructured::new(data));
}
