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

mod schedule;
mod tiles;

use schedule::Schedule;

use crate::batch::{CheckedFrames, check_len, decode_frames};
use crate::codec::Ranges;
use crate::error::{Error, Result};
use crate::kernels::{self, Mixed};
use crate::real::Real;

const ROW_SUM_TOLERANCE: f64 = 1e-9;

/// A mixing matrix in compressed sparse rows that was checked: non-negative rows that sum to 1.
#[derive(Debug, Clone)]
pub struct MixingMatrix {
    starts: Vec<usize>,
    columns: Vec<usize>,
    weights: Vec<f64>,
    schedule: Schedule,
}

impl MixingMatrix {
    /// Returns the `[n, n]` matrix with row pointers `indptr` (`n + 1`), column `indices` and `weights`.
    ///
    /// # Errors
    /// [`Error::Matrix`] unless the row pointers are in order and cover all entries, the indices of each row
    /// increase and are below `n`, the weights are finite and not negative, and each row sums to 1 within
    /// 1e-9.
    pub fn new(indptr: &[i64], indices: &[i64], weights: &[f64]) -> Result<Self> {
        let fault = |row: usize, what: String| Error::Matrix { row, what };
        if indptr.len() < 2 {
            return Err(fault(
                0,
                format!("indptr has {} items; it needs clients + 1, at least 2.", indptr.len()),
            ));
        }
        if indices.len() != weights.len() {
            let (i, w) = (indices.len(), weights.len());
            return Err(fault(0, format!("indices has {i} items and weights {w}; they must have the same.")));
        }
        let n = indptr.len() - 1;
        if u32::try_from(n).is_err() {
            return Err(fault(0, format!("indptr has {} items; 2^32 clients are the most.", indptr.len())));
        }
        let mut starts = Vec::with_capacity(n + 1);
        for (at, &start) in indptr.iter().enumerate() {
            let start = usize::try_from(start).ok().filter(|&start| {
                let first = at > 0 || start == 0;
                let last = if at == n { start == indices.len() } else { start <= indices.len() };
                first && last && starts.last().is_none_or(|&before| before <= start)
            });
            starts.push(start.ok_or_else(|| {
                let (value, nnz) = (indptr[at], indices.len());
                fault(
                    at.saturating_sub(1),
                    format!("indptr[{at}]={value}; it must go from 0 to {nnz} without a step back."),
                )
            })?);
        }
        let mut columns = Vec::with_capacity(indices.len());
        for row in 0..n {
            let entries = starts[row]..starts[row + 1];
            let mut after = 0;
            for (&index, &weight) in indices[entries.clone()].iter().zip(&weights[entries.clone()]) {
                let column = usize::try_from(index).ok().filter(|&column| column < n);
                let column = column.ok_or_else(|| {
                    fault(row, format!("index {index} is not a client; indices must be from 0 to {}.", n - 1))
                })?;
                if column < after {
                    return Err(fault(
                        row,
                        format!("index {index} is out of order; indices must increase, each once."),
                    ));
                }
                if !(weight.is_finite() && weight >= 0.0) {
                    return Err(fault(
                        row,
                        format!("weight {weight} of client {index} must be finite and not negative."),
                    ));
                }
                after = column + 1;
                columns.push(column);
            }
            let sum = weights[entries].iter().fold(0.0, |sum, weight| sum + weight);
            if (sum - 1.0).abs() > ROW_SUM_TOLERANCE {
                return Err(fault(
                    row,
                    format!("weights sum to {sum}; they must sum to 1 within {ROW_SUM_TOLERANCE:e}."),
                ));
            }
        }
        let schedule = Schedule::new(n, |row| &columns[starts[row]..starts[row + 1]]);
        Ok(Self { starts, columns, weights: weights.to_vec(), schedule })
    }

    /// Number of rows.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of stored entries.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.weights.len()
    }

    /// The entries of one row: client and weight, by rising client.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let entries = self.starts[row]..self.starts[row + 1];
        self.columns[entries.clone()].iter().copied().zip(self.weights[entries].iter().copied())
    }

    /// Moves the rows of `x` (`[clients, columns]`) by the differences of the rows of `z`.
    ///
    /// # Errors
    /// [`Error::Length`] where the sizes do not fit, [`Error::Argument`] where `gamma` is not finite.
    pub fn mix_into<T: Mixed>(&self, z: &[T], x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("z", z.len())?;
        check_len("x", x.len(), self.clients(), columns)?;
        let gamma = checked_gamma(gamma)?;
        tiles::mix(self, x, columns, gamma, &Matrix { z, columns });
        Ok(())
    }

    /// [`MixingMatrix::mix_into`] with z = x as it was before the call, bit for bit, without a second matrix.
    ///
    /// # Errors
    /// As [`MixingMatrix::mix_into`].
    pub fn mix_in_place<T: Mixed>(&self, x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("x", x.len())?;
        let gamma = checked_gamma(gamma)?;
        tiles::mix(self, x, columns, gamma, &Itself);
        Ok(())
    }

    /// Decodes `frames` and mixes, tile by tile: bit-equal to decoding all of them to z and then
    /// [`MixingMatrix::mix_into`], without the matrix z.
    ///
    /// # Errors
    /// [`Error::Frame`] with the first frame that was refused and that a row would move by: its weight has to go
    /// elsewhere before. Else as [`MixingMatrix::mix_into`]; `x` is then as it was.
    pub fn mix_frames(&self, frames: &CheckedFrames<'_>, x: &mut [f32], gamma: f64) -> Result<()> {
        let (n, columns) = (self.clients(), frames.columns());
        if frames.rows() != n {
            return Err(Error::Length { field: "frames", have: frames.rows(), need: n });
        }
        check_len("x", x.len(), n, columns)?;
        let gamma = checked_gamma(gamma)?;
        let read = self.read();
        frames.accepted(|row| read[row])?;
        let Some(codec) = frames.codec().ranges() else {
            let mut z = vec![0.0; x.len()];
            decode_frames(frames, &mut z)?;
            return self.mix_into(&z, x, gamma);
        };
        tiles::mix(self, x, columns, gamma, &Messages { frames, codec });
        Ok(())
    }

    /// Which rows of z some row moves by: those of its entries, and its own if it has others.
    fn read(&self) -> Vec<bool> {
        let mut read = vec![false; self.clients()];
        for i in 0..self.clients() {
            for (j, _) in self.row(i).filter(|&(j, _)| j != i) {
                read[j] = true;
                read[i] = true;
            }
        }
        read
    }

    /// Columns of a matrix of `len` items with one row per client.
    pub(crate) fn columns_of(&self, field: &'static str, len: usize) -> Result<usize> {
        let columns = len / self.clients();
        check_len(field, len, self.clients(), columns)?;
        Ok(columns)
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

    fn ahead(&self, row: usize, first: usize, len: usize) {
        kernels::prefetch(self.piece(row, first, len));
    }
}

/// The rows that are mixed.
struct Itself;

impl<T: Real> tiles::Source<T> for Itself {
    fn fill(&self, _: usize, _: usize, x: &[T], out: &mut [T]) {
        out.copy_from_slice(x);
    }

    fn ahead(&self, _: usize, _: usize, _: usize) {}
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

    fn ahead(&self, row: usize, first: usize, len: usize) {
        let Some(payload) = self.frames.payload(row) else { return };
        for bytes in self.codec.bytes(payload, self.frames.columns(), first..first + len) {
            kernels::prefetch(bytes);
        }
    }
}
