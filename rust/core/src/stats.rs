//! How far the clients are from each other.

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::Result;

/// Columns of a partial sum. It fixes the order of the additions, so it is part of the result.
const TILE: usize = 1024;

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
    let tiles: Vec<f64> = (0..columns.div_ceil(TILE))
        .into_par_iter()
        .map(|t| {
            let tile = t * TILE..columns.min((t + 1) * TILE);
            squared_deviation(x.chunks_exact(columns).map(|row| &row[tile.clone()]), tile.len(), rows)
        })
        .collect();
    Ok((tiles.iter().sum::<f64>() / rows as f64).sqrt())
}

/// Sum over rows and columns of the squared distance to the mean row.
fn squared_deviation<'a>(tile: impl Iterator<Item = &'a [f32]> + Clone, width: usize, rows: usize) -> f64 {
    let mut mean = vec![0.0; width];
    for row in tile.clone() {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    mean.iter_mut().for_each(|sum| *sum /= rows as f64);
    let mut squares = vec![0.0; width];
    for row in tile {
        for ((square, mean), &x) in squares.iter_mut().zip(&mean).zip(row) {
            let distance = f64::from(x) - mean;
            *square += distance * distance;
        }
    }
    squares.iter().sum()
}
