//! Messages that are added to a vector as they come.

use rayon::prelude::*;

use super::{Codec, TILE};
use crate::error::{Error, Result};
use crate::kernels::{Accumulate, Level};

/// Numbers that are decoded before they are added: a small part of the first-level cache.
const PIECE: usize = 1024;

impl Codec {
    /// Adds `weight` times the numbers of `payload` to `out`: the same bits as decoding them to z and then
    /// `out[i] = out[i] + weight * z[i]`, both operations rounded, but z never goes to memory where a part of the numbers
    /// can be decoded alone. It is what a receiver does with messages that come one at a time.
    ///
    /// # Errors
    /// As [`Codec::check_payload`], and [`Error::Argument`] where `weight` is not finite; `out` is then as it was.
    pub fn decode_add_into(&self, payload: &[u8], weight: f32, out: &mut [f32]) -> Result<()> {
        if !weight.is_finite() {
            let value = weight.to_string();
            return Err(Error::Argument { field: "weight", value, allowed: "a finite number" });
        }
        let level = Level::current();
        let Some(coder) = self.ranges() else {
            let mut z = vec![0.0; out.len()];
            self.decode_into(payload, &mut z)?;
            let tiles = out.par_chunks_mut(TILE).zip(z.par_chunks(TILE));
            tiles.for_each(|(out, z)| Accumulate { z, weight, out }.add(level));
            return Ok(());
        };
        self.check_payload(payload, out.len())?;
        let n = out.len();
        out.par_chunks_mut(TILE).enumerate().for_each(|(t, out)| {
            let mut z = [0.0; PIECE];
            for (p, out) in out.chunks_mut(PIECE).enumerate() {
                let z = &mut z[..out.len()];
                coder.decode_range(payload, n, t * TILE + p * PIECE, z);
                Accumulate { z, weight, out }.add(level);
            }
        });
        Ok(())
    }
}
