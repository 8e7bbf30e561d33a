//! Dropout masks that depend on (seed, step, client, sample, element) and on nothing else.

use rayon::prelude::*;

use crate::batch::check_len;
use crate::codec::check_elements;
use crate::error::{Error, Result};
use crate::kernels::{self, Level, Mask};
use crate::philox::{CHUNK, Stream};

/// Samples are numbered below this: 24 bits of the counter.
pub const MAX_SAMPLES: u32 = 1 << 24;

/// Fills row i of `out` with the dropout mask of `samples[i]` of `clients[i]`: 0 with probability `rate`
/// (rounded to a multiple of 2^-16), else `1 / (1 - rate)`.
///
/// # Errors
/// [`Error::Argument`] where `rate` is not in 0..1 (or so close to 1 that it rounds to it) or a sample is
/// 2^24 or more, [`Error::Length`] where `clients`, `samples` and `out` are not of the same number of rows.
pub fn dropout_mask_into(
    out: &mut [f32],
    rate: f64,
    (seed, step): (u64, u32),
    clients: &[u32],
    samples: &[u32],
) -> Result<()> {
    let threshold = (rate * 65536.0).round();
    if !((0.0..65536.0).contains(&threshold) && rate >= 0.0) {
        return Err(Error::Argument {
            field: "rate",
            value: rate.to_string(),
            allowed: "0 <= rate < 1 - 2^-17",
        });
    }
    let rows = clients.len();
    if samples.len() != rows {
        return Err(Error::Length { field: "samples", have: samples.len(), need: rows });
    }
    if let Some(sample) = samples.iter().find(|&&sample| sample >= MAX_SAMPLES) {
        return Err(Error::Argument { field: "samples", value: sample.to_string(), allowed: "below 2^24" });
    }
    let columns = out.len().checked_div(rows).unwrap_or(0);
    check_len("out", out.len(), rows, columns)?;
    check_elements(columns)?;
    if columns == 0 {
        return Ok(());
    }
    let level = Level::current();
    let keep = (1.0 / (1.0 - rate)) as f32;
    let rows = out.par_chunks_exact_mut(columns).zip(clients).zip(samples);
    rows.for_each(|((row, &client), &sample)| {
        let stream = Stream::dropout(seed, step, client, sample);
        for (chunk, out) in row.chunks_mut(CHUNK).enumerate() {
            // Both are in range: there are at most 2^28 chunks, and the threshold is below 2^16.
            let (chunk, threshold) = (chunk as u32, threshold as u16);
            kernels::mask_chunk(level, Mask { stream: &stream, chunk, threshold, keep, out });
        }
    });
    Ok(())
}
