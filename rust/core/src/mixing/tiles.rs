//! The loops around the mixing kernel: which piece of which row, and where its neighbours are.
//!
//! A thread mixes one piece of every row, from the first row to the last, before it goes on to the next columns.
//! The pieces of the rows of z that are needed meanwhile are copied (or decoded) to memory of its own: neither a
//! row's length nor its alignment matters there, a z that is decoded never goes to memory, and what is mixed in
//! place is read before it is overwritten.

use std::ops::{Range, RangeInclusive};

use rayon::prelude::*;

use super::MixingMatrix;
use super::schedule::Schedule;
use crate::kernels::{Level, Mix, Mixed, STRIP};
use crate::real::Real;

/// A piece of a row is at most a page: as far as a CPU reads ahead by itself. Short ones make poor use of memory.
const PIECE_BYTES: RangeInclusive<usize> = 1 << 10..=1 << 12;
/// What a thread holds of z is about this much, in and near the first-level cache ...
const NEAR_BYTES: usize = 1 << 16;
/// ... unless that means short pieces, for which a part of the second-level cache is used ...
const MIDDLE_BYTES: usize = 1 << 18;
/// ... and, if they would not even fit that, what is in and near all of it.
const FAR_BYTES: usize = 1 << 21;
/// Rows between the one that is mixed and the one that is asked for from memory.
const AHEAD: usize = 3;
/// Panels per thread: what one thread takes at a time, so that the threads end together.
const PANELS: usize = 4;
const LINE_BYTES: usize = 64;

/// What z is: where the pieces of its rows come from.
pub(super) trait Source<T>: Sync {
    /// Writes the columns of row `row` of z from `first` on to `out`; `x` is the same piece of that row of x, not yet
    /// mixed, where x has such a row.
    fn fill(&self, row: usize, first: usize, x: &[T], out: &mut [T]);
    /// Asks for what [`Source::fill`] will read of `len` columns, of which `x` is that piece of x.
    fn ahead(&self, row: usize, first: usize, len: usize, x: &[T]);
}

/// Mixes all of `x` (`[matrix.local(), columns]`).
pub(super) fn mix<T: Mixed>(
    matrix: &MixingMatrix,
    x: &mut [T],
    columns: usize,
    gamma: f64,
    source: &impl Source<T>,
) {
    let slots = matrix.schedule.slots();
    let width = piece_bytes(slots) / size_of::<T>() / STRIP * STRIP;
    let line = LINE_BYTES / size_of::<T>();
    let tiles = Tiles {
        level: Level::current(),
        far: is_far(slots),
        schedule: &matrix.schedule,
        own: matrix.own().iter().map(|&own| (own, matrix.schedule.slot(own))).collect(),
        terms: Terms::new(matrix),
        gamma: T::from_f64(gamma),
        source,
        width,
        // One cache line more, so that the slots do not share the sets of a cache.
        slot: width + line,
    };
    let panel = columns.div_ceil(PANELS * rayon::current_num_threads()).next_multiple_of(width);
    panels(x, columns, panel).into_par_iter().enumerate().for_each(|(p, mut rows)| {
        T::scratch(slots * tiles.slot + line, |z| {
            let skip = z.as_ptr().align_offset(LINE_BYTES).min(line);
            tiles.mix_panel(&mut rows, p * panel, &mut z[skip..]);
        });
    });
}

/// Bytes of each row that are mixed at a time where so many rows of z are held.
fn piece_bytes(slots: usize) -> usize {
    let (shortest, longest) = PIECE_BYTES.into_inner();
    match is_far(slots) {
        false => (NEAR_BYTES / slots).clamp(shortest, longest),
        true => (FAR_BYTES / slots).clamp(STRIP * size_of::<f64>(), longest),
    }
}

/// Whether so many rows of z are more than the second-level cache is used for.
fn is_far(slots: usize) -> bool {
    slots * PIECE_BYTES.start() > MIDDLE_BYTES
}

struct Tiles<'a, T, S> {
    level: Level,
    /// Whether rows of z are held long, so that one is filled in long before it is mixed.
    far: bool,
    schedule: &'a Schedule,
    /// For each row to mix its own row of z, and where that is held.
    own: Vec<(usize, u32)>,
    terms: Terms<T>,
    gamma: T,
    source: &'a S,
    /// Columns that are mixed at a time.
    width: usize,
    /// Elements from one slot to the next.
    slot: usize,
}

impl<T: Mixed, S: Source<T>> Tiles<'_, T, S> {
    /// Mixes some columns of all rows, of which `first` is the first one.
    fn mix_panel(&self, rows: &mut [&mut [T]], first: usize, z: &mut [T]) {
        let (n, end) = (rows.len(), rows.first().map_or(0, |row| row.len()));
        for start in (0..end).step_by(self.width) {
            let tile = start..end.min(start + self.width);
            let next = tile.end..end.min(tile.end + self.width);
            for row in 0..n {
                for &(held, slot) in self.schedule.fills(row) {
                    let out = &mut z[slot as usize * self.slot..][..tile.len()];
                    let x = rows.get(held).map_or(&[][..], |x| &x[tile.clone()]);
                    self.source.fill(held, first + start, x, out);
                }
                let (later, piece) = match row + AHEAD {
                    later if later < n => (later, tile.clone()),
                    later => (later % n, next.clone()),
                };
                self.ahead(rows, first, later, &piece);
                self.mix_piece(rows, row, tile.clone(), (later, piece), z);
            }
        }
    }

    /// Asks for what has to be there before a piece of row `later` is mixed.
    fn ahead(&self, rows: &[&mut [T]], first: usize, later: usize, piece: &Range<usize>) {
        let ask = |row, x| self.source.ahead(row, first + piece.start, piece.len(), x);
        if !self.far {
            return ask(self.own[later].0, &[]); // x itself is asked for while a row is mixed
        }
        for &(held, _) in self.schedule.fills(later) {
            ask(held, rows.get(held).map_or(&[][..], |x| &x[piece.clone()]));
        }
    }

    /// Mixes one piece of a row and asks for one of another row meanwhile.
    fn mix_piece(
        &self,
        rows: &mut [&mut [T]],
        row: usize,
        tile: Range<usize>,
        (later, piece): (usize, Range<usize>),
        z: &[T],
    ) {
        let (x, ahead) = match rows.get_disjoint_mut([row, later]) {
            Ok([x, later]) => (&mut x[tile], &later[piece]),
            Err(_) => (&mut rows[row][tile], &[][..]),
        };
        let terms = self.terms.starts[row]..self.terms.starts[row + 1];
        T::mix_row(
            self.level,
            Mix {
                x,
                z,
                slot: self.slot,
                own: self.own[row].1,
                weights: &self.terms.weights[terms.clone()],
                slots: &self.terms.slots[terms],
                gamma: self.gamma,
                ahead,
            },
        );
    }
}

/// The entries of the matrix beside the diagonal, as the kernel takes them.
struct Terms<T> {
    weights: Vec<T>,
    slots: Vec<u32>,
    /// Where the terms of each row begin.
    starts: Vec<usize>,
}

impl<T: Real> Terms<T> {
    fn new(matrix: &MixingMatrix) -> Self {
        let (mut weights, mut slots) = (Vec::with_capacity(matrix.nnz()), Vec::with_capacity(matrix.nnz()));
        let mut starts = vec![0];
        for (row, &own) in matrix.own().iter().enumerate() {
            for (column, weight) in matrix.row(row).filter(|&(column, _)| column != own) {
                weights.push(T::from_f64(weight));
                slots.push(matrix.schedule.slot(column));
            }
            starts.push(weights.len());
        }
        Self { weights, slots, starts }
    }
}

/// Cuts a matrix into panels of `width` columns, each given as one slice per row.
pub(crate) fn panels<T>(x: &mut [T], columns: usize, width: usize) -> Vec<Vec<&mut [T]>> {
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
