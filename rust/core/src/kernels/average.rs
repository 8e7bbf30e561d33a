//! A weighted mean, and the way to it: plain code, compiled for every level.

use super::{Body, Level};
use crate::real::Real;

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

/// One piece of a row to move by `gamma` times the way from its public value z to a mean, or to a share of that way.
pub(crate) struct Move<'a, T> {
    pub x: &'a mut [T],
    /// As long as `x`, as is `mean`.
    pub z: &'a [T],
    pub mean: &'a [f64],
    pub share: f64,
    pub gamma: f64,
}

impl<T: Real + Into<f64>> Move<'_, T> {
    /// Moves the piece. With `gamma` and `share` 1 and z = x the mean is what x becomes, exactly.
    pub(crate) fn go(self, level: Level) {
        level.run(self);
    }
}

impl<T: Real + Into<f64>> Body for Move<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let whole = self.gamma == 1.0 && self.share == 1.0;
        for ((x, &z), &mean) in self.x.iter_mut().zip(self.z).zip(self.mean) {
            let (own, public): (f64, f64) = ((*x).into(), z.into());
            *x = T::from_f64(if whole {
                (own - public) + mean
            } else {
                own + self.gamma * (mean - self.share * public)
            });
        }
    }
}
