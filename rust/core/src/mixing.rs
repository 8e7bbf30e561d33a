//! Gossip: every row moves towards its neighbours, by the weights of a sparse mixing matrix.
//!
//! ```text
//! x_i += gamma * sum over j != i of w_ij (z_j - z_i)
//! ```
//!
//! The difference form keeps the mean over rows whatever z is, as long as W is symmetric (or has columns
//! that sum to 1), because every term appears in two rows with opposite signs; with z = x and gamma = 1 it is
//! x <- W x (Xiao and Boyd 2004, "Fast linear iterations for distributed averaging"). Each element's terms
//! are added in the order of j, with every product and sum rounded, so tiles and threads change nothing.

mod average;
mod matrix;
mod schedule;
mod tiles;

pub use average::Average;
pub use matrix::MixingMatrix;
pub(crate) use matrix::checked_own;
pub(crate) use tiles::panels;

use crate::batch::{CheckedFrames, check_len, decode_frames};
use crate::codec::Ranges;
use crate::error::{Error, Result};
use crate::kernels::{self, Mixed};
use crate::real::Real;

impl MixingMatrix {
    /// Moves the rows of `x` (`[local, columns]`) by the differences of the rows of `z` (`[known, columns]`).
    ///
    /// # Errors
    /// [`Error::Length`] where the sizes do not fit, [`Error::Argument`] where `gamma` is not finite.
    pub fn mix_into<T: Mixed>(&self, z: &[T], x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("z", z.len())?;
        check_len("x", x.len(), self.local(), columns)?;
        let gamma = checked_gamma(gamma)?;
        tiles::mix(self, x, columns, gamma, &Matrix { z, columns });
        Ok(())
    }

    /// [`MixingMatrix::mix_into`] with z = x as it was before the call, bit for bit, without a second matrix.
    ///
    /// # Errors
    /// As [`MixingMatrix::mix_into`], and [`Error::Matrix`] unless the matrix is square and row i is client i.
    pub fn mix_in_place<T: Mixed>(&self, x: &mut [T], gamma: f64) -> Result<()> {
        self.check_square("mixing in place")?;
        let columns = self.columns_of("x", x.len())?;
        let gamma = checked_gamma(gamma)?;
        tiles::mix(self, x, columns, gamma, &Itself);
        Ok(())
    }

    /// Decodes `frames`, one of each known client, and mixes, tile by tile: bit-equal to decoding all of them to z and then
    /// [`MixingMatrix::mix_into`], without the matrix z.
    ///
    /// # Errors
    /// [`Error::Frame`] with the first frame that was refused and that a row would move by: its weight has to go
    /// elsewhere before. Else as [`MixingMatrix::mix_into`]; `x` is then as it was.
    pub fn mix_frames(&self, frames: &CheckedFrames<'_>, x: &mut [f32], gamma: f64) -> Result<()> {
        let columns = frames.columns();
        check_len("frames", frames.rows(), self.known(), 1)?;
        check_len("x", x.len(), self.local(), columns)?;
        let gamma = checked_gamma(gamma)?;
        let read = self.read();
        frames.accepted(|row| read[row])?;
        let Some(codec) = frames.codec().ranges() else {
            let mut z = vec![0.0; self.known() * columns]; // as many frames there are
            decode_frames(frames, &mut z)?;
            return self.mix_into(&z, x, gamma);
        };
        tiles::mix(self, x, columns, gamma, &Messages { frames, codec });
        Ok(())
    }
}

pub(crate) fn checked_gamma(gamma: f64) -> Result<f64> {
    if (gamma as f32).is_finite() {
        return Ok(gamma);
    }
    Err(Error::Argument { field: "gamma", value: gamma.to_string(), allowed: "a finite number, in f32 too" })
}

/// A matrix as it is.
struct Matrix<'a, T> {
    z: &'a [T],
    columns: usize,
}

impl<T> Matrix<'_, T> {
    fn piece(&self, row: usize, first: usize, len: usize) -> &[T] {
        self.z.get(row * self.columns + first..).map_or(&[], |z| &z[..len.min(z.len())])
    }
}

impl<T: Real> tiles::Source<T> for Matrix<'_, T> {
    fn fill(&self, row: usize, first: usize, _: &[T], out: &mut [T]) {
        out.copy_from_slice(self.piece(row, first, out.len()));
    }

    fn ahead(&self, row: usize, first: usize, len: usize, _: &[T]) {
        kernels::prefetch(self.piece(row, first, len));
    }
}

/// The rows that are mixed.
struct Itself;

impl<T: Real> tiles::Source<T> for Itself {
    fn fill(&self, _: usize, _: usize, x: &[T], out: &mut [T]) {
        out.copy_from_slice(x);
    }

    fn ahead(&self, _: usize, _: usize, _: usize, x: &[T]) {
        kernels::prefetch(x);
    }
}

/// What the payloads decode to: zeros where a frame was refused.
struct Messages<'a> {
    frames: &'a CheckedFrames<'a>,
    codec: &'a dyn Ranges,
}

impl tiles::Source<f32> for Messages<'_> {
    fn fill(&self, row: usize, first: usize, _: &[f32], out: &mut [f32]) {
        match self.frames.payload(row) {
            Some(payload) => self.codec.decode_range(payload, self.frames.columns(), first, out),
            None => out.fill(0.0),
        }
    }

    fn ahead(&self, row: usize, first: usize, len: usize, _: &[f32]) {
        let Some(payload) = self.frames.payload(row) else { return };
        for bytes in self.codec.bytes(payload, self.frames.columns(), first..first + len) {
            kernels::prefetch(bytes);
        }
    }
}
