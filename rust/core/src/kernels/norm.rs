//! Norms of sums of outer products, in f64: plain code, compiled for every level.
//!
//! Every inner product is added from first to last, and rounded after each product and each sum, so every level gives
//! the same bits.

use std::iter::repeat_n;

use super::{Body, Level};

/// Vectors whose numbers lie side by side; the last panel is filled up with zeros.
const WIDTH: usize = 8;
/// Of those, how many at a time meet all of another panel: as many sums as registers hold.
const HALF: usize = WIDTH / 2;

/// The squared Frobenius norm of the sum over m of the outer products of rows m of two matrices.
///
/// It is the sum over all pairs of rows of `<left_m, left_n> <right_m, right_n>`, from the Gram matrices of both; where
/// there are so many rows that the numbers of the sum itself take fewer products, they are computed tile by tile, and
/// none is kept.
///
/// # Arguments
/// Both matrices, `[terms, columns]`, row after row, with their numbers of columns, at least one.
pub(crate) fn squared_norm((left, d): (&[f64], usize), (right, k): (&[f64], usize), level: Level) -> f64 {
    if (left.len() / d).saturating_mul(d.saturating_add(k)) <= d.saturating_mul(k) {
        level.run(Grams { left: &Panels::of_rows(left, d), right: &Panels::of_rows(right, k) })
    } else {
        level.run(Sum { left: &Panels::of_columns(left, d), right: &Panels::of_columns(right, k) })
    }
}

/// Vectors of one length in panels: the numbers at one place of all vectors of a panel follow one another.
struct Panels {
    numbers: Vec<[f64; WIDTH]>,
    /// Numbers of a vector.
    length: usize,
}

impl Panels {
    /// The rows of a matrix.
    fn of_rows(x: &[f64], columns: usize) -> Self {
        let panel = |rows: &[f64]| {
            let at = |column: usize| {
                let mut numbers = [0.0; WIDTH];
                numbers
                    .iter_mut()
                    .zip(rows.chunks_exact(columns))
                    .for_each(|(number, row)| *number = row[column]);
                numbers
            };
            (0..columns).map(at).collect::<Vec<_>>()
        };
        Self { numbers: x.chunks(WIDTH * columns).flat_map(panel).collect(), length: columns }
    }

    /// The columns of a matrix.
    fn of_columns(x: &[f64], columns: usize) -> Self {
        let at = |(first, row): (usize, &[f64])| {
            let mut numbers = [0.0; WIDTH];
            numbers.iter_mut().zip(&row[first..]).for_each(|(number, x)| *number = *x);
            numbers
        };
        let panel = |first: usize| repeat_n(first, x.len() / columns).zip(x.chunks_exact(columns)).map(at);
        Self { numbers: (0..columns).step_by(WIDTH).flat_map(panel).collect(), length: x.len() / columns }
    }

    fn count(&self) -> usize {
        self.numbers.len().checked_div(self.length).unwrap_or(0)
    }

    /// The inner products of all vectors of panel `p` with all of panel `q` of others of their length.
    #[inline(always)]
    fn products(&self, p: usize, others: &Self, q: usize) -> [[f64; WIDTH]; WIDTH] {
        let (u, v) = (&self.numbers[p * self.length..][..self.length], &others.numbers[q * self.length..]);
        let mut found = [[0.0; WIDTH]; WIDTH];
        for (first, found) in found.chunks_exact_mut(HALF).enumerate() {
            let mut sums = [[0.0; WIDTH]; HALF];
            for (u, v) in u.iter().zip(v) {
                for i in 0..HALF {
                    for j in 0..WIDTH {
                        sums[i][j] += u[first * HALF + i] * v[j];
                    }
                }
            }
            found.copy_from_slice(&sums);
        }
        found
    }
}

/// The sum over m and n of the products of the numbers (m, n) of the Gram matrices of both.
struct Grams<'a> {
    left: &'a Panels,
    right: &'a Panels,
}

impl Body for Grams<'_> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let Self { left, right } = self;
        let mut sum = 0.0;
        for p in 0..left.count() {
            for q in p..left.count() {
                let times = if p == q { 1.0 } else { 2.0 }; // the matrices are symmetric
                let (left, right) = (left.products(p, left, q), right.products(p, right, q));
                let both = left.as_flattened().iter().zip(right.as_flattened());
                sum += times * both.fold(0.0, |sum, (left, right)| sum + left * right);
            }
        }
        sum
    }
}

/// The sum of the squares of the inner products of all with all.
struct Sum<'a> {
    left: &'a Panels,
    right: &'a Panels,
}

impl Body for Sum<'_> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let Self { left, right } = self;
        let mut sum = 0.0;
        for p in 0..left.count() {
            for q in 0..right.count() {
                sum += left
                    .products(p, right, q)
                    .as_flattened()
                    .iter()
                    .fold(0.0, |sum, number| sum + number * number);
            }
        }
        sum
    }
}
