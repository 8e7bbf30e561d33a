//! Sums of weighted vectors: plain code, compiled for every level.

use super::{Body, Level};

/// `out += weight * z`, the product and the sum rounded.
pub(crate) struct Accumulate<'a> {
    pub z: &'a [f32],
    pub weight: f32,
    /// As long as `z`.
    pub out: &'a mut [f32],
}

impl Accumulate<'_> {
    /// Adds to `out`.
    pub(crate) fn add(self, level: Level) {
        level.run(self);
    }
}

impl Body for Accumulate<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (out, z) in self.out.iter_mut().zip(self.z) {
            *out += self.weight * z;
        }
    }
}
