//! Robust mixing: rules under which a few neighbours that send anything cannot lead a row anywhere.
//!
//! Every rule gives a value R_i from the public values z of client i and its neighbours, and moves
//!
//! ```text
//! x_i += gamma * (R_i(z) - z_i)
//! ```
//!
//! which is linear gossip for R_i = sum_j w_ij z_j. Clipping and the rules that select neighbours by distance only
//! set other weights, so they return a [`MixingMatrix`] to mix with; the rules by coordinate sort.
//!
//! The neighbours of a row are its entries above 0. `bad[i]` is how many of row i's are assumed to be bad. Where rows are
//! equal the lower place among the known counts.

mod clipped;
mod coordinate;
mod distances;
mod selection;

use crate::error::{Error, Result};
use crate::mixing::MixingMatrix;
use crate::real::Real;

impl MixingMatrix {
    /// The places of the client of row i and its neighbours, rising.
    fn neighbourhood(&self, i: usize) -> Vec<usize> {
        let (own, mut places) = (self.own()[i], self.neighbours(i).map(|(j, _)| j).collect::<Vec<_>>());
        places.insert(places.partition_point(|&j| j < own), own);
        places
    }

    /// The neighbours of the client of row i, by rising place, and their weights.
    fn neighbours(&self, i: usize) -> impl Iterator<Item = (usize, f64)> {
        let own = self.own()[i];
        self.row(i).filter(move |&(j, weight)| j != own && weight > 0.0)
    }

    /// All (client, neighbour), by their places.
    fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.own().iter().enumerate().flat_map(|(i, &own)| self.neighbours(i).map(move |(j, _)| (own, j)))
    }

    /// Checks that `z` is whole rows of finite numbers and `bad` has one number per row; returns the columns.
    fn check_values<T: Real + Into<f64>>(&self, z: &[T], bad: Option<&[u32]>) -> Result<usize> {
        let columns = self.columns_of("z", z.len())?;
        if let Some(bad) = bad.filter(|bad| bad.len() != self.local()) {
            return Err(Error::Length { field: "bad", have: bad.len(), need: self.local() });
        }
        // Without a branch per number the search of a good matrix is vectorised.
        let infinite = |&z: &T| !z.into().is_finite();
        let tile = z.chunks(4096).position(|tile| tile.iter().fold(false, |any, z| any | infinite(z)));
        if let Some(at) =
            tile.and_then(|tile| Some(tile * 4096 + z[tile * 4096..].iter().position(infinite)?))
        {
            let (row, column): (usize, usize) = (at / columns, at % columns);
            return Err(Error::Argument {
                field: "z",
                value: format!("{} in row {row}, column {column}", z[at].into()),
                allowed: "finite: a message that is not was to be refused before",
            });
        }
        Ok(columns)
    }
}

/// The error for a row whose neighbours are too few for the rule.
fn too_few(row: usize, values: usize, bad: usize, need: &str) -> Error {
    let what =
        format!("{values} values, its own among them, are too few for bad={bad}; the rule needs {need}.");
    Error::Matrix { row, what }
}
