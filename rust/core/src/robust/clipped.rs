//! Clipped gossip (He, Karimireddy and Jaggi 2022, arXiv 2202.01545): no neighbour pulls further than a radius.
//!
//! ```text
//! R_i = z_i + sum over j != i of w_ij clip(z_j - z_i, tau_i),   clip(v, tau) = v min(1, tau / ||v||)
//! ```
//!
//! As the clip only shortens a difference, this is linear gossip with the weight w_ij min(1, tau_i / ||z_j - z_i||).
//!
//! The paper clips around a client's own exact value. Here it is the client's public value z_i: the same thing where
//! the codec loses nothing, and otherwise what keeps the mean, as the two ends of an edge then clip the same
//! difference. A neighbour pulls by at most gamma w_ij tau_i either way, whatever it sends.

use crate::error::{Error, Result};
use crate::mixing::MixingMatrix;
use crate::real::Real;
use crate::robust::distances::Distances;
use crate::robust::too_few;

/// A clipped neighbour as far as this pulls nothing: its differences are near the end of f32, and its shrunk weight
/// is as near the other end.
const REACH: f64 = (1_u128 << 96) as f64;

impl MixingMatrix {
    /// Returns the weights under which no neighbour pulls further than `radius` from `z` (`[known, columns]`).
    ///
    /// One radius and symmetric weights give symmetric weights: the mean over rows stays.
    ///
    /// # Errors
    /// [`Error::Length`] where `z` is not whole rows, [`Error::Argument`] where it is not finite or `radius` is
    /// negative or NaN.
    pub fn clipped<T: Real + Into<f64>>(&self, z: &[T], radius: f64) -> Result<Self> {
        if radius.is_nan() || radius < 0.0 {
            return Err(Error::Argument {
                field: "radius",
                value: radius.to_string(),
                allowed: "a number of at least 0",
            });
        }
        let columns = self.check_values(z, None)?;
        self.clip(z, columns, |_, _| Ok(radius))
    }

    /// Returns the weights under which no neighbour of client i pulls further than its radius: the distance of its
    /// `bad[i] + 1`-th farthest neighbour, so that at most `bad[i]` of them are clipped.
    ///
    /// If no more than `bad[i]` are bad, the radius is at most the distance of a good one. Radii differ from client
    /// to client, so the mean does not stay.
    ///
    /// # Errors
    /// As [`MixingMatrix::clipped`], and [`Error::Matrix`] for a row whose values, its own among them, are `2 bad` or
    /// fewer.
    pub fn clipped_beyond<T: Real + Into<f64>>(&self, z: &[T], bad: &[u32]) -> Result<Self> {
        let columns = self.check_values(z, Some(bad))?;
        self.clip(z, columns, |i, mut distances| {
            let (values, bad) = (distances.len() + 1, bad[i] as usize);
            if values <= 2 * bad {
                return Err(too_few(i, values, bad, "more than 2 bad"));
            }
            distances.sort_by(|a, b| b.total_cmp(a));
            Ok(distances.get(bad).copied().unwrap_or(f64::INFINITY))
        })
    }

    /// Shrinks the weights to the radius that `radius` gives for a client and the distances of its neighbours.
    fn clip<T: Real + Into<f64>>(
        &self,
        z: &[T],
        columns: usize,
        radius: impl Fn(usize, Vec<f64>) -> Result<f64>,
    ) -> Result<Self> {
        let distances = Distances::along(z, columns, self.edges());
        let rows = self.own().iter().enumerate().map(|(i, &own)| {
            let distance = |j| distances.squared(own, j).sqrt();
            let radius = radius(i, self.neighbours(i).map(|(j, _)| distance(j)).collect())?;
            let mut row: Vec<_> =
                self.neighbours(i).map(|(j, weight)| (j, weight * shrink(distance(j), radius))).collect();
            let rest = 1.0 - row.iter().map(|(_, weight)| weight).sum::<f64>();
            row.insert(row.partition_point(|&(j, _)| j < own), (own, rest.max(0.0)));
            Ok(row)
        });
        self.with_rows(&rows.collect::<Result<Vec<_>>>()?)
    }
}

/// The factor that brings `distance` down to `radius`.
fn shrink(distance: f64, radius: f64) -> f64 {
    if distance <= radius {
        1.0
    } else if distance < REACH {
        radius / distance
    } else {
        0.0
    }
}
