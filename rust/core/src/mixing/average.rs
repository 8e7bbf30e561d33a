//! The mixing matrix whose rows are all the same: every row of x moves towards one weighted mean.
//!
//! ```text
//! x_i += gamma * (m - s z_i),  m = sum over j of w_j z_j,  s = sum over j of w_j
//! ```
//!
//! That is `x_i += gamma * sum over j of w_j (z_j - z_i)`, for which n^2 weights would be read. All is in f64, the sum in
//! the order of j, and x_i is rounded once. With s = 1 and gamma = 1 it is `(x_i - z_i) + m`: where z = x, all rows
//! become the same m.

use rayon::prelude::*;

use super::tiles::{Source, panels};
use super::{Matrix, Messages, checked_gamma};
use crate::batch::{CheckedFrames, check_len, decode_frames};
use crate::error::{Error, Result};
use crate::kernels::{Level, Move, STRIP, Weigh};

const SUM_TOLERANCE: f64 = 1e-9;
/// Most columns that one thread takes at a time ...
const WIDTH: usize = 2048;
/// ... and how many such pieces there are for each thread, at least: so that they end together.
const PANELS: usize = 4;
/// Of so many clients pieces stay in the second-level cache from when they are added up until the rows are moved.
const FEW: usize = 32;

/// What every client applies, checked once: a weight for each whose values are known, and the rest of 1 for itself.
#[derive(Debug, Clone)]
pub struct Average {
    weights: Vec<f64>,
    share: f64,
}

impl Average {
    /// Returns the matrix `1 w^T + home I` of `weights`, one of each known client, and what each keeps for itself.
    ///
    /// # Errors
    /// [`Error::Matrix`] unless there are at least one and at most 2^32 weights, all are finite and not negative, as is
    /// `home`, and they sum to 1 with it within 1e-9.
    pub fn new(weights: &[f64], home: f64) -> Result<Self> {
        let fault = |what: String| Error::Matrix { row: 0, what };
        if weights.is_empty() || weights.len() as u64 > 1 << 32 {
            return Err(fault(format!("it has {} weights; it needs 1 to 2^32.", weights.len())));
        }
        let mut all = weights.iter().chain([&home]).enumerate();
        if let Some((at, weight)) = all.find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0)) {
            let whose = if at < weights.len() { format!("of client {at}") } else { "at home".to_owned() };
            return Err(fault(format!("weight {weight} {whose} must be finite and not negative.")));
        }
        let sum = weights.iter().fold(home, |sum, weight| sum + weight);
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            let what = format!(
                "weights sum to {sum} with what stays at home; they must sum to 1 within {SUM_TOLERANCE:e}."
            );
            return Err(fault(what));
        }
        Ok(Self { weights: weights.to_vec(), share: 1.0 - home })
    }

    /// Number of clients whose values are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.weights.len()
    }

    /// Moves the rows of `x` (`[local, columns]`), those of the known clients from `first` on, by the mean of the rows
    /// of `z` (`[known, columns]`).
    ///
    /// # Errors
    /// [`Error::Length`] where the sizes do not fit, [`Error::Argument`] where `gamma` is not finite or `x` has rows
    /// beyond the known clients.
    pub fn mix_into(&self, z: &[f32], x: &mut [f32], first: usize, gamma: f64) -> Result<()> {
        let columns = z.len() / self.known(); // at least one: they sum to 1
        check_len("z", z.len(), self.known(), columns)?;
        self.mix(x, columns, first, gamma, &Matrix { z, columns })
    }

    /// Decodes `frames`, one of each known client, and mixes: bit-equal to decoding all of them to z and then
    /// [`Average::mix_into`], without the matrix z.
    ///
    /// # Errors
    /// [`Error::Frame`] with the first frame that was refused and that counts: its weight has to go elsewhere before.
    /// Else as [`Average::mix_into`]; `x` is then as it was.
    pub fn mix_frames(
        &self,
        frames: &CheckedFrames<'_>,
        x: &mut [f32],
        first: usize,
        gamma: f64,
    ) -> Result<()> {
        let columns = frames.columns();
        check_len("frames", frames.rows(), self.known(), 1)?;
        let local = x.len().checked_div(columns).unwrap_or(0);
        frames
            .accepted(|row| self.weights[row] > 0.0 || (first..first.saturating_add(local)).contains(&row))?;
        let Some(codec) = frames.codec().ranges() else {
            let mut z = vec![0.0; self.known() * columns]; // as many frames there are
            decode_frames(frames, &mut z)?;
            return self.mix_into(&z, x, first, gamma);
        };
        self.mix(x, columns, first, gamma, &Messages { frames, codec })
    }

    fn mix(
        &self,
        x: &mut [f32],
        columns: usize,
        first: usize,
        gamma: f64,
        source: &impl Source<f32>,
    ) -> Result<()> {
        let local = x.len().checked_div(columns).unwrap_or(0);
        check_len("x", x.len(), local, columns)?;
        if first.checked_add(local).is_none_or(|stop| stop > self.known()) {
            let allowed = "a place from which on there are known clients for all rows of x";
            return Err(Error::Argument { field: "first", value: first.to_string(), allowed });
        }
        let (level, gamma) = (Level::current(), f64::from(checked_gamma(gamma)? as f32));
        if columns == 0 {
            return Ok(());
        }
        let threads = rayon::current_num_threads();
        if self.known() <= FEW {
            let width = columns.div_ceil(PANELS * threads).next_multiple_of(STRIP).min(WIDTH);
            panels(x, columns, width).into_par_iter().enumerate().for_each(|(p, rows)| {
                let count = width.min(columns - p * width);
                let (mut held, mut mean) = (vec![0.0; self.known() * count], vec![0.0; count]);
                for ((row, &weight), z) in self.weights.iter().enumerate().zip(held.chunks_exact_mut(count)) {
                    source.fill(row, p * width, &[], z);
                    Weigh { z, weight, sums: &mut mean }.add(level);
                }
                for (x, z) in rows.into_iter().zip(held[first * count..].chunks_exact(count)) {
                    Move { x, z, mean: &mean, share: self.share, gamma }.go(level);
                }
            });
            return Ok(());
        }
        let mut mean = vec![0.0; columns];
        let width = columns.div_ceil(threads).next_multiple_of(STRIP).min(WIDTH);
        mean.par_chunks_mut(width).enumerate().for_each_init(Vec::new, |z, (t, sums)| {
            z.resize(sums.len(), 0.0);
            for (row, &weight) in self.weights.iter().enumerate() {
                source.fill(row, t * width, &[], z);
                Weigh { z, weight, sums }.add(level);
            }
        });
        x.par_chunks_exact_mut(columns).enumerate().for_each(|(i, row)| {
            let pieces = row.par_chunks_mut(WIDTH).zip(mean.par_chunks(WIDTH)).enumerate();
            pieces.for_each_init(Vec::new, |z, (t, (x, mean))| {
                z.resize(x.len(), 0.0);
                source.fill(first + i, t * WIDTH, &[], z);
                Move { x, z, mean, share: self.share, gamma }.go(level);
            });
        });
        Ok(())
    }
}
