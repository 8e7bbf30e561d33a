//! The inner loops of robust mixing and push-sum: plain code, compiled for every level.
//!
//! Sums are in f64 and in an order that is part of the result, so every level gives the same bits.

use super::{Body, Level, STRIP};
use crate::real::Real;

/// Partial sums of a squared distance. Their number fixes the order of its additions.
const LANES: usize = 16;

/// The squared distance of two pieces of the same length.
pub(crate) struct Squared<'a, T> {
    pub a: &'a [T],
    pub b: &'a [T],
}

impl<T: Real + Into<f64>> Squared<'_, T> {
    /// Returns sum (a - b)^2: element c goes to partial sum c mod 16, then these are added in order.
    pub(crate) fn sum(self, level: Level) -> f64 {
        level.run(self)
    }
}

impl<T: Real + Into<f64>> Body for Squared<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let mut sums = [0.0_f64; LANES];
        let (a, a_rest) = self.a.as_chunks::<LANES>();
        let (b, b_rest) = self.b.as_chunks::<LANES>();
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                let gap: f64 = a[lane].into() - b[lane].into();
                sums[lane] += gap * gap;
            }
        }
        for (sum, (&a, &b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
            let gap: f64 = a.into() - b.into();
            *sum += gap * gap;
        }
        sums.iter().sum()
    }
}

/// A tile whose columns are sorted, each on its own.
pub(crate) struct Sort<'a, T> {
    /// Rows side by side, each of `width` elements; none is NaN.
    pub tile: &'a mut [T],
    pub width: usize,
    /// Pairs of rows to compare and exchange, lower one first, in order.
    pub network: &'a [(usize, usize)],
}

impl<T: Real + PartialOrd> Sort<'_, T> {
    /// Sorts each column by rising rows.
    pub(crate) fn sort(self, level: Level) {
        level.run(self);
    }
}

impl<T: Real + PartialOrd> Body for Sort<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for &(low, high) in self.network {
            let (left, right) = self.tile.split_at_mut(high * self.width);
            let (low, high) = (&mut left[low * self.width..][..self.width], &mut right[..self.width]);
            for (low, high) in low.iter_mut().zip(high) {
                let (a, b) = (*low, *high);
                *low = if b < a { b } else { a };
                *high = if b < a { a } else { b };
            }
        }
    }
}

/// The mean of some rows, in f64, in their order.
pub(crate) struct Mean<'a, T> {
    /// Side by side, each of `width` elements.
    pub rows: &'a [T],
    pub width: usize,
    /// As many.
    pub means: &'a mut [f64],
}

impl<T: Real + Into<f64>> Mean<'_, T> {
    /// Writes `means`.
    pub(crate) fn take(self, level: Level) {
        level.run(self);
    }
}

impl<T: Real + Into<f64>> Body for Mean<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let count = (self.rows.len() / self.width) as f64;
        for (strip, means) in self.means.chunks_mut(STRIP).enumerate() {
            let mut sums = [0.0_f64; STRIP];
            for row in self.rows.chunks_exact(self.width) {
                for (sum, &value) in sums.iter_mut().zip(&row[strip * STRIP..][..means.len()]) {
                    *sum += value.into();
                }
            }
            for (mean, sum) in means.iter_mut().zip(sums) {
                *mean = sum / count;
            }
        }
    }
}

/// One piece of a row to move: `x += gamma * (sum_j w_j z_j - out * z)`, terms in order, all in f64.
pub(crate) struct Push<'a, T> {
    pub x: &'a mut [T],
    /// The whole of z, and where the piece begins in it.
    pub z: &'a [T],
    pub own: usize,
    /// Weight of each other row, and where its piece begins in `z`.
    pub terms: &'a [(f64, usize)],
    /// Weight of what leaves.
    pub out: f64,
    pub gamma: f64,
}

impl<T: Real + Into<f64>> Push<'_, T> {
    /// Moves the piece.
    pub(crate) fn push(self, level: Level) {
        level.run(self);
    }
}

impl<T: Real + Into<f64>> Body for Push<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (strip, x) in self.x.chunks_mut(STRIP).enumerate() {
            let mut sums = [0.0_f64; STRIP];
            for &(weight, start) in self.terms {
                for (sum, &z) in sums.iter_mut().zip(&self.z[start + strip * STRIP..][..x.len()]) {
                    *sum += weight * z.into();
                }
            }
            let own = &self.z[self.own + strip * STRIP..][..x.len()];
            for ((x, &z), sum) in x.iter_mut().zip(own).zip(sums) {
                *x = T::from_f64((*x).into() + self.gamma * (sum - self.out * z.into()));
            }
        }
    }
}
