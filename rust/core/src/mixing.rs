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

use std::cell::RefCell;
use std::ops::{Add, Mul, Sub};

use rayon::prelude::*;

use crate::batch::{Frames, check_len, decode_frames};
use crate::error::{Error, Result};
use crate::kernels::{self, Level, Mix, STRIP};

/// A tile of columns, all rows of it, is about this many bytes: it stays in the second-level cache.
const TILE_BYTES: usize = 1 << 17;
/// Widest tile in columns: a few pages of each row.
const MAX_WIDTH: usize = 4096;
/// Bytes of a row that are asked for at a time.
const AHEAD_BYTES: usize = 1 << 11;
/// Panels per thread: what one thread takes at a time, so that the threads end together.
const PANELS: usize = 4;
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

mod private {
    pub trait Sealed: Sized + 'static {
        /// Runs `work` with `len` items of memory that this thread keeps for the next call.
        fn workspace<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
    }
}

macro_rules! real {
    ($($type:ident)*) => { $(
        impl Real for $type {
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }
        }

        impl private::Sealed for $type {
            fn workspace<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static MEMORY: RefCell<Vec<$type>> = const { RefCell::new(Vec::new()) };
                }
                MEMORY.with_borrow_mut(|memory| {
                    if memory.len() < len {
                        memory.resize(len, 0.0);
                    }
                    work(&mut memory[..len])
                })
            }
        }
    )* };
}
real!(f32 f64);

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

    /// The entries of one row: client and weight, by rising client.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let entries = self.starts[row]..self.starts[row + 1];
        self.columns[entries.clone()].iter().copied().zip(self.weights[entries].iter().copied())
    }

    /// Moves the rows of `x` (`[clients, columns]`) by the differences of the rows of `z`.
    ///
    /// # Errors
    /// [`Error::Length`] where the sizes do not fit, [`Error::Argument`] where `gamma` is not finite.
    pub fn mix_into<T: Real>(&self, z: &[T], x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("z", z.len())?;
        check_len("x", x.len(), self.clients(), columns)?;
        let gamma = checked_gamma(gamma)?;
        let piece = |row, first, len: usize| {
            z.get(row * columns + first..).map_or(&[][..], |z| &z[..len.min(z.len())])
        };
        let fill = |row, first, _: &[T], tile: &mut [T]| tile.copy_from_slice(piece(row, first, tile.len()));
        self.mix_tiles(x, columns, gamma, fill, |row, first, len| kernels::prefetch(piece(row, first, len)));
        Ok(())
    }

    /// [`MixingMatrix::mix_into`] with z = x as it was before the call, bit for bit, without a second matrix.
    ///
    /// # Errors
    /// As [`MixingMatrix::mix_into`].
    pub fn mix_in_place<T: Real>(&self, x: &mut [T], gamma: f64) -> Result<()> {
        let columns = self.columns_of("x", x.len())?;
        let gamma = checked_gamma(gamma)?;
        let fill = |_, _, x: &[T], tile: &mut [T]| tile.copy_from_slice(x);
        self.mix_tiles(x, columns, gamma, fill, |_, _, _| ());
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
        let Some(codec) = frames.codec().ranges() else {
            let mut z = vec![0.0; x.len()];
            decode_frames(frames, &mut z)?;
            return self.mix_into(&z, x, gamma);
        };
        frames.check_payloads()?;
        let fill = |row, first, _: &[f32], tile: &mut [f32]| {
            codec.decode_range(frames.payload(row), columns, first, tile);
        };
        self.mix_tiles(x, columns, gamma, fill, |row, first, len| {
            kernels::prefetch(codec.numbers(frames.payload(row), columns, first..first + len));
        });
        Ok(())
    }

    /// Mixes tile by tile. `fill(row, first, x, tile)` writes the columns of z from `first` to `tile`; `x` is the
    /// same piece of x as it was before.
    ///
    /// Rows of z are copied side by side, so that neither a row's length nor its alignment matters.
    fn mix_tiles<T: Real>(
        &self,
        x: &mut [T],
        columns: usize,
        gamma: f64,
        fill: impl Fn(usize, usize, &[T], &mut [T]) + Sync,
        ahead: impl Fn(usize, usize, usize) + Sync,
    ) {
        let (level, gamma, n) = (Level::current(), T::from_f64(gamma), self.clients());
        let width = (TILE_BYTES / size_of::<T>() / n / STRIP * STRIP).clamp(STRIP, MAX_WIDTH);
        let share = (AHEAD_BYTES / size_of::<T>() / width).max(1);
        let (terms, starts) = self.terms::<T>(width);
        let panel = columns.div_ceil(PANELS * rayon::current_num_threads()).next_multiple_of(width);
        panels(x, columns, panel).into_par_iter().enumerate().for_each(|(p, mut rows)| {
            let end = rows.first().map_or(0, |row| row.len());
            T::workspace(n * width, |z| {
                for start in (0..end).step_by(width) {
                    let tile = start..end.min(start + width);
                    for (row, (x, z)) in rows.iter().zip(z.chunks_exact_mut(width)).enumerate() {
                        fill(row, p * panel + start, &x[tile.clone()], &mut z[..tile.len()]);
                    }
                    // Some of the rows ask for a longer piece of what comes next, so that memory sees longer runs.
                    let turn = start / width % share;
                    let next = start + (share - turn) * width;
                    let next = end.min(next)..end.min(next + share * width);
                    for (row, x) in rows.iter_mut().enumerate() {
                        if row % share == turn {
                            kernels::prefetch(&x[next.clone()]);
                            ahead(row, p * panel + next.start, next.len());
                        }
                        let (x, terms) = (&mut x[tile.clone()], &terms[starts[row]..starts[row + 1]]);
                        kernels::mix_row(level, Mix { x, z, own: row * width, terms, gamma });
                    }
                }
            });
        });
    }

    /// The weights of the other rows and where these begin in tiles of `width` columns, and where the terms
    /// of each row start.
    fn terms<T: Real>(&self, width: usize) -> (Vec<(T, usize)>, Vec<usize>) {
        let (mut terms, mut starts) = (Vec::with_capacity(self.nnz()), vec![0]);
        for row in 0..self.clients() {
            let entries = self.starts[row]..self.starts[row + 1];
            let entries = self.columns[entries.clone()].iter().zip(&self.weights[entries]);
            let others = entries.filter(|&(&column, _)| column != row);
            terms.extend(others.map(|(&column, &weight)| (T::from_f64(weight), column * width)));
            starts.push(terms.len());
        }
        (terms, starts)
    }

    /// Columns of a matrix of `len` items with one row per client.
    pub(crate) fn columns_of(&self, field: &'static str, len: usize) -> Result<usize> {
        let columns = len / self.clients();
        check_len(field, len, self.clients(), columns)?;
        Ok(columns)
    }
}

/// Cuts a matrix into panels of `width` columns, each given as one slice per row.
fn panels<T>(x: &mut [T], columns: usize, width: usize) -> Vec<Vec<&mut [T]>> {
    if columns == 0 {
        return Vec::new();
    }
    let rows = x.len() / columns;
    let mut panels: Vec<_> = (0..columns.div_ceil(width)).map(|_| Vec::with_capacity(rows)).collect();
    for row in x.chunks_exact_mut(columns) {
        for (panel, piece) in panels.iter_mut().zip(row.chunks_mut(width)) {
            panel.push(piece);
        }
    }
    panels
}

pub(crate) fn checked_gamma(gamma: f64) -> Result<f64> {
    if gamma.is_finite() {
        return Ok(gamma);
    }
    Err(Error::Argument { field: "gamma", value: gamma.to_string(), allowed: "a finite number" })
}
