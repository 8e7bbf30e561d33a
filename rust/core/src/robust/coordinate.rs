//! Rules by coordinate: each column is sorted over a client and its neighbours, and its middle is averaged.
//!
//! Yin et al. 2018, "Byzantine-robust distributed learning", arXiv 1803.01498.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::Result;
use crate::kernels::{Level, Mean, Move, STRIP, Sort};
use crate::mixing::{MixingMatrix, checked_gamma, panels};
use crate::real::Real;
use crate::robust::too_few;

/// A tile of columns, the rows of one neighbourhood, is about this many bytes: it stays in the second-level cache.
const TILE_BYTES: usize = 1 << 17;
/// Widest tile in columns.
const MAX_WIDTH: usize = 2048;

impl MixingMatrix {
    /// Moves each row of `x` (`[local, columns]`) by `gamma` towards the trimmed mean of `z` (`[known, columns]`): of the
    /// k values of client i and its neighbours, in each column, the mean without the `bad[i]` lowest and highest.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where sizes do not fit, [`Error::Argument`](crate::Error::Argument)
    /// where `z` or `gamma` is not finite, [`Error::Matrix`](crate::Error::Matrix) for a row with `k <= 2 bad`; `x` is
    /// then as it was.
    pub fn trimmed_mean_into<T>(&self, z: &[T], x: &mut [T], bad: &[u32], gamma: f64) -> Result<()>
    where
        T: Real + Into<f64> + PartialOrd,
    {
        let columns = self.check_values(z, Some(bad))?;
        let trim = |i: usize, values: usize| {
            let bad = bad[i] as usize;
            if values <= 2 * bad {
                return Err(too_few(i, values, bad, "more than 2 bad"));
            }
            Ok(bad..values - bad)
        };
        self.by_coordinate(z, x, columns, gamma, trim)
    }

    /// Moves each row of `x` (`[local, columns]`) by `gamma` towards the median of `z` (`[known, columns]`) over a client
    /// and its neighbours in each column: the mean of the two in the middle where their number is even.
    ///
    /// # Errors
    /// As [`MixingMatrix::trimmed_mean_into`], without that of a row.
    pub fn median_into<T>(&self, z: &[T], x: &mut [T], gamma: f64) -> Result<()>
    where
        T: Real + Into<f64> + PartialOrd,
    {
        let columns = self.check_values(z, None)?;
        self.by_coordinate(z, x, columns, gamma, |_, values| Ok((values - 1) / 2..values / 2 + 1))
    }

    /// Moves each row towards the mean of the ranks that `kept` gives for a client and how many values it has.
    fn by_coordinate<T: Real + Into<f64> + PartialOrd>(
        &self,
        z: &[T],
        x: &mut [T],
        columns: usize,
        gamma: f64,
        kept: impl Fn(usize, usize) -> Result<Range<usize>>,
    ) -> Result<()> {
        check_len("x", x.len(), self.local(), columns)?;
        let gamma = checked_gamma(gamma)?;
        let groups: Vec<_> = (0..self.local()).map(|i| self.neighbourhood(i)).collect();
        let ranks =
            groups.iter().enumerate().map(|(i, group)| kept(i, group.len())).collect::<Result<Vec<_>>>()?;
        if columns == 0 {
            return Ok(());
        }
        // Clients that follow each other, have the same values and keep the same ranks come to one mean: on a complete
        // graph, and at a server, all of them, so that it is sorted once.
        let key = |i: usize| (&groups[i], &ranks[i]);
        let clients: Vec<_> = (0..self.local()).collect();
        let shared: Vec<_> = clients.chunk_by(|&one, &next| key(one) == key(next)).collect();
        let networks: BTreeMap<usize, _> =
            groups.iter().map(|group| (group.len(), sorting_network(group.len()))).collect();
        let level = Level::current();
        panels(x, columns, MAX_WIDTH).into_par_iter().enumerate().for_each(|(p, mut rows)| {
            let mut rest = &mut rows[..];
            let work: Vec<_> = shared
                .iter()
                .map(|members| {
                    let (own, later) = mem::take(&mut rest).split_at_mut(members.len());
                    rest = later;
                    (members, own)
                })
                .collect();
            let room = || (Vec::new(), [0.0; MAX_WIDTH]);
            work.into_par_iter().for_each_init(room, |(tile, means), (members, rows)| {
                let (group, ranks) = key(members[0]);
                let network = &networks[&group.len()];
                let width = TILE_BYTES / size_of::<T>() / group.len() / STRIP * STRIP;
                let (width, end) = (width.clamp(STRIP, MAX_WIDTH), rows[0].len());
                for start in (0..end).step_by(width) {
                    let count = width.min(end - start);
                    let piece = |client: usize| &z[client * columns + p * MAX_WIDTH + start..][..count];
                    tile.clear();
                    group.iter().for_each(|&client| tile.extend_from_slice(piece(client)));
                    Sort { tile: &mut *tile, width: count, network }.sort(level);
                    let (kept, means) = (&tile[ranks.start * count..ranks.end * count], &mut means[..count]);
                    Mean { rows: kept, width: count, means }.take(level);
                    for (&i, x) in members.iter().zip(rows.iter_mut()) {
                        let x = &mut x[start..start + count];
                        Move { x, z: piece(self.own()[i]), mean: means, share: 1.0, gamma }.go(level);
                    }
                }
            });
        });
        Ok(())
    }
}

/// Pairs of places that, compared and exchanged in order, sort `n` values: Batcher's odd-even merge sort (Knuth, The
/// Art of Computer Programming, volume 3, section 5.2.2, algorithm M).
fn sorting_network(n: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut sorted = 1; // runs of this many are sorted
    while sorted < n {
        let mut step = sorted;
        while step >= 1 {
            for start in (step % sorted..n.saturating_sub(step)).step_by(2 * step) {
                for low in start..(start + step).min(n - step) {
                    if low / (2 * sorted) == (low + step) / (2 * sorted) {
                        pairs.push((low, low + step));
                    }
                }
            }
            step /= 2;
        }
        sorted *= 2;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::sorting_network;

    /// The zero-one principle: a network that sorts all sequences of 0 and 1 sorts everything.
    #[test]
    fn networks_sort_every_sequence_of_zeros_and_ones() {
        for n in 0..=16 {
            let network = sorting_network(n);
            for bits in 0..1_u32 << n {
                let sorted = network.iter().fold(bits, |bits, &(low, high)| {
                    let swap = bits >> low & 1 & !(bits >> high);
                    bits ^ (swap << low | swap << high)
                });
                assert_eq!(sorted, ((1 << bits.count_ones()) - 1) << (n as u32 - bits.count_ones()), "{n}");
            }
        }
    }
}
