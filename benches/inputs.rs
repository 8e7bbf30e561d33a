//! Inputs of the benches, and the copy that every one of them is measured beside.
//!
//! Throughputs are bytes moved, read plus written, so that a kernel and a copy compare as they are.

use rayon::prelude::*;

/// Numbers about as an adapter has them: small, of both signs, without a pattern.
#[must_use]
pub fn values(n: usize) -> Vec<f32> {
    (0..n as u32)
        .into_par_iter()
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .map(|x| x * x * x)
        .collect()
}

/// Copies on all threads of the pool, as the core's functions run.
pub fn copy(from: &[f32], to: &mut [f32]) {
    const TILE: usize = 1 << 16;
    to.par_chunks_mut(TILE).zip(from.par_chunks(TILE)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Row pointers, indices and weights of the graph in which client i hears i + offset for every offset.
#[must_use]
pub fn circulant(clients: usize, offsets: &[usize]) -> (Vec<i64>, Vec<i64>, Vec<f64>) {
    let weight = 1.0 / (offsets.len() + 1) as f64;
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    for i in 0..clients {
        let mut row: Vec<_> = offsets.iter().map(|offset| ((i + offset) % clients) as i64).collect();
        row.push(i as i64);
        row.sort_unstable();
        indices.extend(row);
        indptr.push(indices.len() as i64);
    }
    let weights = vec![weight; indices.len()];
    (indptr, indices, weights)
}
