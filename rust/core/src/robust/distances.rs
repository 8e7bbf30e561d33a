//! Squared distances between rows, each pair once.

use std::collections::BTreeSet;
use std::rc::Rc;

use rayon::prelude::*;

use crate::kernels::{Level, Squared};
use crate::real::Real;

/// Columns that are compared for all pairs before the next ones, so that the rows' pieces stay in the cache. It fixes
/// the order of the additions, so it is part of the result.
const TILE: usize = 4096;

/// Squared distances of some pairs of rows.
pub(super) struct Distances {
    /// Pairs (a, b), a < b, in order.
    pairs: Vec<(usize, usize)>,
    squared: Vec<f64>,
}

impl Distances {
    /// Measures the distances between the clients of each group, of rows of `columns` numbers.
    pub(super) fn within<T: Real + Into<f64>>(z: &[T], columns: usize, groups: &[Vec<usize>]) -> Self {
        let groups: BTreeSet<_> = groups.iter().collect();
        let clients: Vec<_> =
            groups.iter().copied().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let rank = |client: usize| clients.partition_point(|&other| other < client);
        let mut groups_of = vec![Vec::new(); clients.len()];
        for group in groups {
            let ranks: Rc<[usize]> = group.iter().map(|&client| rank(client)).collect();
            ranks.iter().for_each(|&a| groups_of[a].push(Rc::clone(&ranks)));
        }
        // Client by client, so that a pair in many groups is listed once.
        let (mut pairs, mut listed) = (Vec::new(), vec![usize::MAX; clients.len()]);
        for (a, groups) in groups_of.iter().enumerate() {
            let first = pairs.len();
            for &b in groups.iter().flat_map(|group| group.iter()).filter(|&&b| b > a) {
                if listed[b] != a {
                    listed[b] = a;
                    pairs.push((clients[a], clients[b]));
                }
            }
            pairs[first..].sort_unstable();
        }
        Self::of(z, columns, pairs)
    }

    /// Measures the distances of the neighbours `edges`, in any order, some of them given from both ends.
    pub(super) fn along<T: Real + Into<f64>>(
        z: &[T],
        columns: usize,
        edges: impl Iterator<Item = (usize, usize)>,
    ) -> Self {
        let mut pairs: Vec<_> = edges.map(|(a, b)| (a.min(b), a.max(b))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Self::of(z, columns, pairs)
    }

    /// Measures the distances of `pairs`, which are in order, a < b.
    fn of<T: Real + Into<f64>>(z: &[T], columns: usize, pairs: Vec<(usize, usize)>) -> Self {
        let level = Level::current();
        let mut squared = vec![0.0; pairs.len()];
        for start in (0..columns).step_by(TILE) {
            let piece = |row: usize| &z[row * columns + start..row * columns + columns.min(start + TILE)];
            squared.par_iter_mut().zip(&pairs).for_each(|(sum, &(a, b))| {
                *sum += Squared { a: piece(a), b: piece(b) }.sum(level);
            });
        }
        Self { pairs, squared }
    }

    /// The squared distance of two clients whose pair was measured; 0 of a client to itself.
    pub(super) fn squared(&self, a: usize, b: usize) -> f64 {
        self.pairs.binary_search(&(a.min(b), a.max(b))).map_or(0.0, |at| self.squared[at])
    }
}
