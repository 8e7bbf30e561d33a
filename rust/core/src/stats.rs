//! How far the clients are from each other.

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::Result;
use crate::kernels::{Deviation, Level};

/// Columns of a partial sum. It fixes the order of the additions, so it is part of the result.
const TILE: usize = 1024;
/// Columns of all rows that are read twice are about this many bytes: the second time they are in a cache.
const PIECE_BYTES: usize = 1 << 18;

/// Consensus distance of the rows of `x` (`[rows, columns]`): sqrt(mean over i of ||x_i - mean||^2).
///
/// Kong et al. 2021, "Consensus control for decentralized deep learning", arXiv 2102.04828. All sums are in f64 and in a
/// fixed order. It is 0 for an empty matrix and NaN or infinite where `x` is not finite.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where `x` is not `rows` rows.
pub fn consensus_distance(x: &[f32], rows: usize) -> Result<f64> {
    let columns = x.len().checked_div(rows).unwrap_or(0);
    check_len("x", x.len(), rows, columns)?;
    if x.is_empty() {
        return Ok(0.0);
    }
    let level = Level::current();
    let piece = (PIECE_BYTES / size_of::<f32>() / rows).clamp(TILE / 8, TILE);
    let tiles: Vec<f64> = (0..columns.div_ceil(TILE))
        .into_par_iter()
        .map(|t| {
            let first = t * TILE;
            let mut squares = [0.0; TILE];
            let squares = &mut squares[..TILE.min(columns - first)];
            for (p, squares) in squares.chunks_mut(piece).enumerate() {
                Deviation::<TILE> { x, columns, first: first + p * piece, squares }.add(level);
            }
            squares.iter().sum()
        })
        .collect();
    Ok((tiles.iter().sum::<f64>() / rows as f64).sqrt())
}
