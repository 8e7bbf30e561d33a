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

use std::ops::{Add, Mul, Sub};

use rayon::prelude::*;

use crate::batch::{Frames, check_len};
use crate::error::{Error, Result};
use crate::kernels::{self, Level};

/// A tile of columns, all rows of it, is about this many bytes: it stays in the second-level cache.
const TILE_BYTES: usize = 1 << 18;
const ROW_SUM_TOLERANCE: f64 = 1e-9;

/// The two types of floats that can be mixed.
pub trait Real:
    Copy + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + private::Sealed
{
    /// Zero.
    const ZERO: Self;
    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A mixing matrix in compressed sparse rows that was checked: non-negative rows that sum to 1.
#[derive(Debug, Clone)]
pub struct MixingMatrix {
    starts: Vec<usize>,
    columns: Vec<usize>,
    weights: Vec<f64>,
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
        Ok(Self { starts, columns, weights: weights.to_vec() })
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

    /// Moves the rows of `x` (`[clients, columns]`) by the differences of the rows of `z`.
    ///
    /// # Errors
    /// [`Error::Length`] where the sizes do not fit, [`Error::Argument`] where `gamma` is not finite.
    pub fn mix_into<T: Real>(&self, z: &[T], x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("z", z.len())?;
        check_len("x", x.len(), self.clients(), columns)?;
        let gamma = checked_gamma(gamma)?;
        let width = self.tile_width::<T>();
        tiles(x, columns, width).into_par_iter().enumerate().for_each(|(t, mut rows)| {
            self.mix_tile(&Tile { data: z, stride: columns, first: t * width }, &mut rows, gamma);
        });
        Ok(())
    }

    /// [`MixingMatrix::mix_into`] with z = x as it was before the call, bit for bit, without a second matrix.
    ///
    /// # Errors
    /// As [`MixingMatrix::mix_into`].
    pub fn mix_in_place<T: Real>(&self, x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("x", x.len())?;
        let gamma = checked_gamma(gamma)?;
        let work = tiles(x, columns, self.tile_width::<T>()).into_par_iter();
        work.for_each_init(Vec::new, |copy: &mut Vec<T>, mut rows| {
            copy.clear();
            rows.iter().for_each(|row| copy.extend_from_slice(row));
            let stride = rows.first().map_or(0, |row| row.len());
            self.mix_tile(&Tile { data: copy, stride, first: 0 }, &mut rows, gamma);
        });
        Ok(())
    }

    /// Decodes `frames` and mixes, tile by tile: bit-equal to decoding all of them to z and then
    /// [`MixingMatrix::mix_into`], without the matrix z. Headers are not read.
    ///
    /// # Errors
    /// [`Error::Frame`] with the first payload that cannot be decoded, else as [`MixingMatrix::mix_into`];
    /// `x` is then as it was.
    pub fn mix_frames(&self, frames: &Frames<'_>, x: &mut [f32], gamma: f64) -> Result<()> {
        let (n, columns) = (self.clients(), frames.columns());
        if frames.rows() != n {
            return Err(Error::Length { field: "frames", have: frames.rows(), need: n });
        }
        check_len("x", x.len(), n, columns)?;
        let gamma = checked_gamma(gamma)?;
        frames.check_payloads()?;
        let width = self.tile_width::<f32>();
        let work = tiles(x, columns, width).into_par_iter().enumerate();
        work.for_each_init(Vec::new, |z: &mut Vec<f32>, (t, mut rows)| {
            let stride = rows.first().map_or(0, |row| row.len());
            z.resize(n * stride, 0.0); // no more than x has in these columns
            for (row, z) in z.chunks_exact_mut(stride.max(1)).enumerate() {
                frames.codec().decode_range(frames.payload(row), columns, t * width, z);
            }
            self.mix_tile(&Tile { data: z, stride, first: 0 }, &mut rows, gamma);
        });
        Ok(())
    }

    fn mix_tile<T: Real>(&self, z: &Tile<'_, T>, rows: &mut [&mut [T]], gamma: f64) {
        let level = Level::detect();
        let mut terms = Vec::new();
        for (i, x) in rows.iter_mut().enumerate() {
            let entries = self.starts[i]..self.starts[i + 1];
            let entries = self.columns[entries.clone()].iter().zip(&self.weights[entries]);
            terms.clear();
            terms.extend(
                entries
                    .filter(|&(&j, _)| j != i)
                    .map(|(&j, &weight)| (T::from_f64(weight), z.row(j, x.len()))),
            );
            kernels::mix_row(level, x, z.row(i, x.len()), &terms, T::from_f64(gamma));
        }
    }

    /// Columns of a matrix of `len` items with one row per client.
    fn columns_of(&self, field: &'static str, len: usize) -> Result<usize> {
        let columns = len / self.clients();
        check_len(field, len, self.clients(), columns)?;
        Ok(columns)
    }

    /// Columns of a tile: a multiple of 128, so that a tile begins on a whole group of every codec.
    fn tile_width<T>(&self) -> usize {
        (TILE_BYTES / size_of::<T>() / self.clients()).clamp(256, 4096) / 128 * 128
    }
}

/// Some columns of a matrix with rows of `stride` items.
struct Tile<'a, T> {
    data: &'a [T],
    stride: usize,
    first: usize,
}

impl<'a, T> Tile<'a, T> {
    fn row(&self, row: usize, width: usize) -> &'a [T] {
        &self.data[row * self.stride + self.first..][..width]
    }
}

/// Cuts a matrix into tiles of `width` columns, each given as one slice per row.
fn tiles<T>(x: &mut [T], columns: usize, width: usize) -> Vec<Vec<&mut [T]>> {
    if columns == 0 {
        return Vec::new();
    }
    let rows = x.len() / columns;
    let mut tiles: Vec<_> = (0..columns.div_ceil(width)).map(|_| Vec::with_capacity(rows)).collect();
    for row in x.chunks_exact_mut(columns) {
        for (tile, piece) in tiles.iter_mut().zip(row.chunks_mut(width)) {
            tile.push(piece);
        }
    }
    tiles
}

fn checked_gamma(gamma: f64) -> Result<f64> {
    if gamma.is_finite() {
        return Ok(gamma);
    }
    Err(Error::Argument { field: "gamma", value: gamma.to_string(), allowed: "a finite number" })
}
