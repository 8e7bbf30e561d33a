//! A weighted mean, and the way to it: plain code, compiled for every level.

use super::{Body, Level};

/// `sums += weight * z`, the product and the sum rounded to f64.
pub(crate) struct Weigh<'a> {
    pub z: &'a [f32],
    pub weight: f64,
    /// As long as `z`.
    pub sums: &'a mut [f64],
}

impl Weigh<'_> {
    /// Adds to `sums`.
    pub(crate) fn add(self, level: Level) {
        level.run(self);
    }
}

impl Body for Weigh<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (sum, &z) in self.sums.iter_mut().zip(self.z) {
            *sum += self.weight * f64::from(z);
        }
    }
}

/// One piece of a row to move: `x += gamma * (mean - share * z)`, all in f64, rounded once.
pub(crate) struct Move<'a> {
    pub x: &'a mut [f32],
    /// As long as `x`, as is `mean`.
    pub z: &'a [f32],
    pub mean: &'a [f32],
    pub share: f64,
    pub gamma: f64,
}

impl Move<'_> {
    /// Moves the piece.
    pub(crate) fn go(self, level: Level) {
        level.run(self);
    }
}

impl Body for Move<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for ((x, &z), &mean) in self.x.iter_mut().zip(self.z).zip(self.mean) {
            *x = (f64::from(*x) + self.gamma * (f64::from(mean) - self.share * f64::from(z))) as f32;
        }
    }
}
