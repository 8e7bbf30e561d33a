//! How far what the clients' adapters do is from each other.

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::{Error, Result};
use crate::kernels::{Level, squared_norm};

/// Where the factors of one adapted layer are in a row, and what their product is multiplied by.
#[derive(Debug, Clone, Copy)]
pub struct Factors {
    /// First column of B, `[outputs, rank]`.
    pub b: usize,
    /// First column of A, `[rank, inputs]`.
    pub a: usize,
    /// Rank of both.
    pub rank: usize,
    /// Outputs of the layer.
    pub outputs: usize,
    /// Inputs of the layer.
    pub inputs: usize,
    /// What B A is multiplied by.
    pub scaling: f64,
}

/// Consensus distance of the products that rows of `x` (`[rows, columns]`) add to the weights of their layers:
/// sqrt(mean over i of the sum over layers of ||s B_i A_i - mean_j s B_j A_j||_F^2).
///
/// With means B, A and deviations b_i, a_i, a product is B A + Y_i, where Y_i = B a_i + b_i A_i = `[B b_i] [a_i; A_i]`,
/// and the Y_i have the mean C of b_i a_i. So the sum over i of ||Y_i||^2, less rows times ||C||^2, has nothing in it
/// of the size of B A that would cancel. Norms are those of sums of outer products, in f64 and in a fixed order: the
/// square of the result is off by some (outputs + inputs + rows x rank) f64 epsilons of the mean of
/// (||B|| ||a_i|| + ||b_i|| ||A_i||)^2. Of a layer, all rows are held in f64.
///
/// It is 0 for an empty matrix and not finite where a factor is not.
///
/// # Errors
/// [`Error::Length`] where `x` is not `rows` rows, and [`Error::Argument`] for a layer that is not within a row.
pub fn product_distance(x: &[f32], rows: usize, layers: &[Factors]) -> Result<f64> {
    let columns = x.len().checked_div(rows).unwrap_or(0);
    check_len("x", x.len(), rows, columns)?;
    if x.is_empty() {
        return Ok(0.0);
    }
    if let Some(layer) = layers.iter().find(|layer| !layer.within(columns)) {
        let value = format!("{layer:?}");
        return Err(Error::Argument {
            field: "layers",
            value,
            allowed: "matrices of at least one number, within a row",
        });
    }
    let level = Level::current();
    let squares: Vec<f64> = layers.par_iter().map(|layer| layer.spread(x, columns, level)).collect();
    let mean = squares.iter().sum::<f64>() / rows as f64;
    Ok(if mean < 0.0 { 0.0 } else { mean.sqrt() })
}

impl Factors {
    /// Reads layers from rows of `[b, a, rank, outputs, inputs]`, one for each scaling.
    ///
    /// # Errors
    /// [`Error::Length`] where there are not five numbers for each scaling.
    pub fn of_rows(layers: &[u64], scalings: &[f64]) -> Result<Vec<Self>> {
        check_len("layers", layers.len(), scalings.len(), 5)?;
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let of = |(layer, scaling): (&[u64], &f64)| match *layer {
            [b, a, rank, outputs, inputs] => Some(Self {
                b: whole(b),
                a: whole(a),
                rank: whole(rank),
                outputs: whole(outputs),
                inputs: whole(inputs),
                scaling: *scaling,
            }),
            _ => None,
        };
        Ok(layers.chunks_exact(5).zip(scalings).filter_map(of).collect())
    }

    fn within(&self, columns: usize) -> bool {
        [(self.b, self.outputs), (self.a, self.inputs)].iter().all(|&(start, size)| {
            let end = size.checked_mul(self.rank).filter(|n| *n > 0).and_then(|n| n.checked_add(start));
            end.is_some_and(|end| end <= columns)
        })
    }

    /// The sum over rows of the squared distances of this layer's products to their mean.
    fn spread(&self, x: &[f32], columns: usize, level: Level) -> f64 {
        let &Self { rank, outputs: d, inputs: k, .. } = self;
        let rows = || x.chunks_exact(columns);
        // Components one after the other, `[rows, rank, d]` and `[rows, rank, k]`.
        let of_b = |row: &[f32], at: usize| f64::from(row[self.b + at % d * rank + at / d]);
        let mut b: Vec<f64> = rows().flat_map(|row| (0..rank * d).map(move |at| of_b(row, at))).collect();
        let of_a =
            |row: &'_ [f32]| row[self.a..][..rank * k].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let mut a: Vec<f64> = rows().flat_map(of_a).collect();
        let (mean_b, mean_a) = (mean(&b, rank * d), mean(&a, rank * k));
        // The two factors of Y_i, first what all have of them.
        let mut left = [&mean_b[..], &mean_b].concat();
        let mut right = [&mean_a[..], &mean_a].concat();
        let mut total = 0.0;
        for (b, a) in b.chunks_exact_mut(rank * d).zip(a.chunks_exact_mut(rank * k)) {
            right[rank * k..].copy_from_slice(a);
            subtract(b, &mean_b);
            subtract(a, &mean_a);
            left[rank * d..].copy_from_slice(b);
            right[..rank * k].copy_from_slice(a);
            total += squared_norm((&left, d), (&right, k), level);
        }
        let count = rows().len() as f64;
        self.scaling * self.scaling * (total - squared_norm((&b, d), (&a, k), level) / count)
    }
}

/// The mean of rows of so many numbers.
fn mean(x: &[f64], columns: usize) -> Vec<f64> {
    let mut found = vec![0.0; columns];
    for row in x.chunks_exact(columns) {
        found.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
    }
    let rows = (x.len() / columns) as f64;
    found.iter_mut().for_each(|sum| *sum /= rows);
    found
}

fn subtract(x: &mut [f64], mean: &[f64]) {
    x.iter_mut().zip(mean).for_each(|(number, mean)| *number -= mean);
}
