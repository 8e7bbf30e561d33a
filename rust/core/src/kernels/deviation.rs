//! Distances of many rows to their mean: plain code, compiled for every level.
//!
//! The sums of a column are in f64 and go from row to row in order, so every level gives the same bits.

use super::{Body, Level};

/// Rows that are added before a sum goes back to memory.
const ROWS: usize = 4;

/// The squared distances of some columns to their means, summed over rows.
pub(crate) struct Deviation<'a, const COLUMNS: usize> {
    /// A matrix with rows of `columns` elements, at least one.
    pub x: &'a [f32],
    pub columns: usize,
    /// Column of `x` that is the first of `squares`.
    pub first: usize,
    /// One sum for each column, at most `COLUMNS`, 0 before.
    pub squares: &'a mut [f64],
}

impl<const COLUMNS: usize> Deviation<'_, COLUMNS> {
    /// Adds the squared distances to `squares`.
    pub(crate) fn add(self, level: Level) {
        level.run(self);
    }
}

impl<const COLUMNS: usize> Body for Deviation<'_, COLUMNS> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Self { x, columns, first, squares } = self;
        let mut means = [0.0; COLUMNS];
        let means = &mut means[..squares.len()];
        over_rows(x, columns, first, means, |_, sum, x| sum + x);
        let rows = (x.len() / columns) as f64;
        means.iter_mut().for_each(|sum| *sum /= rows);
        over_rows(x, columns, first, squares, |c, sum, x| {
            let distance = x - means[c];
            sum + distance * distance
        });
    }
}

/// Gives every element of the columns from `first` on to `add`, with its column and the sum of the column so far.
#[inline(always)]
fn over_rows(
    x: &[f32],
    columns: usize,
    first: usize,
    sums: &mut [f64],
    add: impl Fn(usize, f64, f64) -> f64,
) {
    let width = sums.len();
    let mut groups = x.chunks_exact(ROWS * columns);
    for group in &mut groups {
        let row = |r: usize| &group[r * columns + first..][..width];
        let [a, b, c, d]: [&[f32]; ROWS] = std::array::from_fn(row);
        for at in 0..width {
            let sum = add(at, sums[at], f64::from(a[at]));
            let sum = add(at, sum, f64::from(b[at]));
            let sum = add(at, sum, f64::from(c[at]));
            sums[at] = add(at, sum, f64::from(d[at]));
        }
    }
    for row in groups.remainder().chunks_exact(columns) {
        for (at, (sum, &x)) in sums.iter_mut().zip(&row[first..]).enumerate() {
            *sum = add(at, *sum, f64::from(x));
        }
    }
}
