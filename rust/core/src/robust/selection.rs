//! Rules that average some of the values near a client, chosen by their distances, and drop the rest.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::mixing::MixingMatrix;
use crate::real::Real;
use crate::robust::distances::Distances;
use crate::robust::too_few;

impl MixingMatrix {
    /// Returns the weights of nearest-neighbour averaging: equal ones for the `k - bad[i]` of the k values of client i
    /// and its neighbours that are nearest to its own (Farhadkhani et al. 2023, "Robust collaborative learning with
    /// linear gradient overhead", arXiv 2209.10931, where the rule is MoNNA's). Of equally near ones the lower client
    /// counts; its own always does.
    ///
    /// # Errors
    /// [`Error::Length`] where `z` (`[known, columns]`) or `bad` is not of this many rows, [`Error::Argument`] where
    /// `z` is not finite, [`Error::Matrix`] for a row with `k <= 2 bad`.
    pub fn nearest<T: Real + Into<f64>>(&self, z: &[T], bad: &[u32]) -> Result<Self> {
        let columns = self.check_values(z, Some(bad))?;
        let groups: Vec<_> = (0..self.local()).map(|i| self.neighbourhood(i)).collect();
        let distances = Distances::along(z, columns, self.edges());
        let rows = groups.into_iter().enumerate().map(|(i, group)| {
            let (values, bad) = (group.len(), bad[i] as usize);
            if values <= 2 * bad {
                return Err(too_few(i, values, bad, "more than 2 bad"));
            }
            // Below any distance: another value may be as near as its own.
            let own = self.own()[i];
            let rank = |&j: &usize| if j == own { -1.0 } else { distances.squared(own, j) };
            Ok(equal_weights(group, rank, values - bad))
        });
        self.with_rows(&rows.collect::<Result<Vec<_>>>()?)
    }

    /// Returns the weights of multi-Krum (Blanchard et al. 2017, "Machine learning with adversaries"): of the k values
    /// of client i and its neighbours, equal weights for the `average` ones of lowest score; 1 is Krum. A score is the
    /// sum of the squared distances to the `k - bad[i] - 2` nearest of the others. Of equal scores the lower client
    /// counts.
    ///
    /// Without `average` it is `k - bad[i] - 2`, the most for which it is proven to be robust (El Mhamdi, Guerraoui and
    /// Rouault 2019, arXiv 1905.04374); it is never more than `k - bad[i]`. A client with fewer than three values of
    /// which none is bad keeps its own.
    ///
    /// # Errors
    /// As [`MixingMatrix::nearest`], [`Error::Matrix`] for a row with `k < 2 bad + 3`, and [`Error::Argument`] where
    /// `average` is 0.
    pub fn krum<T: Real + Into<f64>>(&self, z: &[T], bad: &[u32], average: Option<usize>) -> Result<Self> {
        let columns = self.check_values(z, Some(bad))?;
        if average == Some(0) {
            return Err(Error::Argument { field: "average", value: "0".to_owned(), allowed: "at least 1" });
        }
        let groups: Vec<_> = (0..self.local()).map(|i| self.neighbourhood(i)).collect();
        let distances = Distances::within(z, columns, &groups);
        // On the complete graph all neighbourhoods are one.
        let mut scored: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        let rows = groups.iter().enumerate().map(|(i, group)| {
            let (values, bad) = (group.len(), bad[i] as usize);
            if values < 3 && bad == 0 {
                return Ok(vec![(self.own()[i], 1.0)]);
            }
            if values < 2 * bad + 3 {
                return Err(too_few(i, values, bad, "at least 2 bad + 3"));
            }
            let average = average.unwrap_or(values - bad - 2).min(values - bad);
            let scores = scored.entry((group, bad)).or_insert_with(|| {
                group.par_iter().map(|&j| score(&distances, group, j, values - bad - 2)).collect()
            });
            let rank = |j: &usize| group.binary_search(j).map_or(f64::INFINITY, |at| scores[at]);
            Ok(equal_weights(group.clone(), rank, average))
        });
        self.with_rows(&rows.collect::<Result<Vec<_>>>()?)
    }
}

/// Sum of the squared distances of client `j` to the `count` nearest others of its group.
fn score(distances: &Distances, group: &[usize], j: usize, count: usize) -> f64 {
    let mut others: Vec<_> =
        group.iter().filter(|&&other| other != j).map(|&other| distances.squared(j, other)).collect();
    others.sort_by(f64::total_cmp);
    others.iter().take(count).sum()
}

/// Equal weights for the `count` clients of lowest rank; `group` is in order, and the sort keeps it among equals.
fn equal_weights(mut group: Vec<usize>, rank: impl Fn(&usize) -> f64, count: usize) -> Vec<(usize, f64)> {
    group.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    group.truncate(count);
    group.sort_unstable();
    group.into_iter().map(|client| (client, 1.0 / count as f64)).collect()
}
