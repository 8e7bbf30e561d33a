//! The robust rules, from their definitions, one element at a time.

use std::ops::Range;

use crate::naive::Dense;

type Rows = [Vec<f64>];

pub fn neighbourhood(weights: &Dense, i: usize) -> Vec<usize> {
    (0..weights.len()).filter(|&j| j == i || weights[i][j] > 0.0).collect()
}

pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    squared(a, b).sqrt()
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// x_i + gamma sum_j w_ij clip(z_j - z_i, tau_i).
pub fn clipped(weights: &Dense, z: &Rows, x: &Rows, radii: &[f64], gamma: f64) -> Vec<Vec<f64>> {
    let mut out = x.to_vec();
    for i in 0..weights.len() {
        for j in neighbourhood(weights, i) {
            let norm = distance(&z[i], &z[j]);
            let factor = if norm > radii[i] { radii[i] / norm } else { 1.0 };
            for c in 0..out[i].len() {
                out[i][c] += gamma * weights[i][j] * factor * (z[j][c] - z[i][c]);
            }
        }
    }
    out
}

/// The distance of the (bad + 1)-th farthest neighbour.
pub fn radius(weights: &Dense, z: &Rows, i: usize, bad: usize) -> f64 {
    let group = neighbourhood(weights, i);
    let mut distances: Vec<_> =
        group.into_iter().filter(|&j| j != i).map(|j| distance(&z[i], &z[j])).collect();
    distances.sort_by(|a, b| b.total_cmp(a));
    distances.get(bad).copied().unwrap_or(f64::INFINITY)
}

/// The mean of the sorted values of some ranks, in f64 in rising order, and the step towards it.
pub fn by_coordinate(
    weights: &Dense,
    z: &[f32],
    x: &[f32],
    gamma: f64,
    ranks: impl Fn(usize) -> Range<usize>,
) -> Vec<f32> {
    let columns = x.len() / weights.len();
    let mut out = x.to_vec();
    for i in 0..weights.len() {
        let group = neighbourhood(weights, i);
        let ranks = ranks(group.len());
        for c in 0..columns {
            let mut sorted: Vec<f64> = group.iter().map(|&j| f64::from(z[j * columns + c])).collect();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let mean = sorted[ranks.clone()].iter().fold(0.0, |sum, z| sum + z) / ranks.len() as f64;
            let (own, public) = (f64::from(x[i * columns + c]), f64::from(z[i * columns + c]));
            let moved = if gamma == 1.0 { own - public + mean } else { own + gamma * (mean - public) };
            out[i * columns + c] = moved as f32;
        }
    }
    out
}

/// Equal weights for the `count` first of `ranked`, lowest rank first, then lowest client.
fn equal(mut ranked: Vec<(f64, usize)>, count: usize, n: usize) -> Vec<f64> {
    ranked.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let chosen: Vec<usize> = ranked[..count].iter().map(|&(_, j)| j).collect();
    (0..n).map(|j| if chosen.contains(&j) { 1.0 / count as f64 } else { 0.0 }).collect()
}

pub fn nearest(weights: &Dense, z: &Rows, i: usize, bad: usize) -> Vec<f64> {
    let group = neighbourhood(weights, i);
    let count = group.len() - bad;
    let ranked = group.into_iter().map(|j| (if j == i { -1.0 } else { squared(&z[i], &z[j]) }, j));
    equal(ranked.collect(), count, z.len())
}

pub fn krum(weights: &Dense, z: &Rows, i: usize, bad: usize, average: Option<usize>) -> Vec<f64> {
    let group = neighbourhood(weights, i);
    let k = group.len();
    if k < 3 {
        return (0..z.len()).map(|j| f64::from(u8::from(j == i))).collect();
    }
    let scores = group.iter().map(|&j| {
        let mut others: Vec<f64> =
            group.iter().filter(|&&l| l != j).map(|&l| squared(&z[j], &z[l])).collect();
        others.sort_by(f64::total_cmp);
        (others[..k - bad - 2].iter().sum::<f64>(), j)
    });
    equal(scores.collect(), average.unwrap_or(k - bad - 2).min(k - bad), z.len())
}
