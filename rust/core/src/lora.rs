//! LoRA of a group of clients over tokens that lie client by client: each token meets its own client's factors.
//!
//! Hu et al. 2021, arXiv 2106.09685. A client of a group has few tokens and few ranks: such a product is too small for a
//! library's call, so one call here does those of all clients.

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::Result;
use crate::kernels::{Factor, Level, Product};

/// Multiply-adds that one thread does alone: others would take about as long to wake.
const GRAIN: usize = 1 << 24;
/// Rows of a product that one thread computes at least: each of them reads all of Q.
const LEAST: usize = 12;

/// The factors of a group's clients for one layer, and whose the tokens are.
#[derive(Debug, Clone, Copy)]
pub struct GroupedLora<'a> {
    /// A, `[clients, rank, inputs]`.
    pub a: &'a [f32],
    /// B, `[clients, outputs, rank]`.
    pub b: &'a [f32],
    /// Rank of each client's factors.
    pub rank: usize,
    /// Inputs of the layer.
    pub inputs: usize,
    /// Outputs of the layer.
    pub outputs: usize,
    /// How many tokens each client has.
    pub counts: &'a [u32],
    /// What B A x is multiplied by.
    pub scaling: f32,
}

/// The gradients to write.
#[derive(Debug)]
pub struct LoraGradients<'a> {
    /// Of A, `[clients, rank, inputs]`.
    pub a: &'a mut [f32],
    /// Of B, `[clients, outputs, rank]`.
    pub b: &'a mut [f32],
    /// Of x, `[tokens, inputs]`, where it is asked for.
    pub x: Option<&'a mut [f32]>,
}

impl<'a> GroupedLora<'a> {
    /// Writes A x of each token to `down [tokens, rank]`, and y + scaling B A x to `out [tokens, outputs]`.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the sizes do not fit.
    pub fn forward(
        &self,
        mut x: &[f32],
        mut y: &[f32],
        mut down: &mut [f32],
        mut out: &mut [f32],
    ) -> Result<()> {
        let &Self { rank, inputs, outputs, scaling, .. } = self;
        let tokens = self.tokens_of(x)?;
        check_len("y", y.len(), tokens, outputs)?;
        check_len("down", down.len(), tokens, rank)?;
        check_len("out", out.len(), tokens, outputs)?;
        let clients = self.clients().map(|(a, b, count)| {
            let x = x.split_off(..count * inputs).unwrap_or_default();
            let y = y.split_off(..count * outputs).unwrap_or_default();
            let down = down.split_off_mut(..count * rank).unwrap_or_default();
            let out = out.split_off_mut(..count * outputs).unwrap_or_default();
            (a, b, x, y, down, out)
        });
        self.share(clients, tokens, |(a, b, x, y, down, out), threads| {
            let (a, b) = (transposed(a, inputs), transposed(b, rank));
            compute(Product::new(Factor::of_rows(x, inputs), &a, rank, down), threads);
            let up = Product::new(Factor::of_rows(down, rank), &b, outputs, out);
            compute(up.times(scaling).onto(y), threads);
        });
        Ok(())
    }

    /// Writes the gradients, given that of `out`, `[tokens, outputs]`, and what [`Self::forward`] read and wrote.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the sizes do not fit.
    pub fn backward(
        &self,
        mut grad: &[f32],
        mut x: &[f32],
        mut down: &[f32],
        to: LoraGradients<'_>,
    ) -> Result<()> {
        let &Self { rank, inputs, outputs, scaling, .. } = self;
        let tokens = self.tokens_of(x)?;
        check_len("grad", grad.len(), tokens, outputs)?;
        check_len("down", down.len(), tokens, rank)?;
        check_len("grad_a", to.a.len(), self.counts.len(), rank.saturating_mul(inputs))?;
        check_len("grad_b", to.b.len(), self.counts.len(), outputs.saturating_mul(rank))?;
        if let Some(grad_x) = &to.x {
            check_len("grad_x", grad_x.len(), tokens, inputs)?;
        }
        let mut to = (to.a, to.b, to.x);
        let clients = self.clients().map(|(a, b, count)| {
            let grad = grad.split_off(..count * outputs).unwrap_or_default();
            let x = x.split_off(..count * inputs).unwrap_or_default();
            let down = down.split_off(..count * rank).unwrap_or_default();
            let grad_a = to.0.split_off_mut(..a.len()).unwrap_or_default();
            let grad_b = to.1.split_off_mut(..b.len()).unwrap_or_default();
            let grad_x = to.2.as_mut().map(|all| all.split_off_mut(..count * inputs).unwrap_or_default());
            (a, b, grad, x, down, LoraGradients { a: grad_a, b: grad_b, x: grad_x })
        });
        self.share(clients, tokens, |(a, b, grad, x, down, to), threads| {
            let mut own = vec![0.0; down.len()]; // the gradient of `down`
            compute(Product::new(Factor::of_rows(grad, outputs), b, rank, &mut own).times(scaling), threads);
            compute(Product::new(Factor::transposed(&own, rank), x, inputs, to.a), threads);
            let grad_b = Product::new(Factor::transposed(grad, outputs), down, rank, to.b);
            compute(grad_b.times(scaling), threads);
            if let Some(grad_x) = to.x {
                compute(Product::new(Factor::of_rows(&own, rank), a, inputs, grad_x), threads);
            }
        });
        Ok(())
    }

    /// Checks the factors and the inputs; returns the number of tokens.
    fn tokens_of(&self, x: &[f32]) -> Result<usize> {
        let clients = self.counts.len();
        check_len("a", self.a.len(), clients, self.rank.saturating_mul(self.inputs))?;
        check_len("b", self.b.len(), clients, self.outputs.saturating_mul(self.rank))?;
        let tokens = self.counts.iter().fold(0_usize, |sum, &count| sum.saturating_add(count as usize));
        check_len("x", x.len(), tokens, self.inputs)?;
        Ok(tokens)
    }

    /// Each client's A, B and number of tokens.
    fn clients(&self) -> impl Iterator<Item = (&'a [f32], &'a [f32], usize)> {
        let (mut a, mut b) = (self.a, self.b);
        let sizes = (self.rank.saturating_mul(self.inputs), self.outputs.saturating_mul(self.rank));
        self.counts.iter().map(move |&count| {
            let a = a.split_off(..sizes.0).unwrap_or_default();
            (a, b.split_off(..sizes.1).unwrap_or_default(), count as usize)
        })
    }

    /// Does each client's `work`, given how many threads may help with it.
    fn share<T: Send>(
        &self,
        clients: impl Iterator<Item = T>,
        tokens: usize,
        work: impl Fn(T, usize) + Sync + Send,
    ) {
        let width = self.rank.saturating_mul(self.inputs.saturating_add(self.outputs));
        if tokens.saturating_mul(width) <= GRAIN {
            return clients.for_each(|client| work(client, 1));
        }
        let clients: Vec<_> = clients.collect();
        let threads = rayon::current_num_threads().div_ceil(clients.len().max(1));
        clients.into_par_iter().for_each(|client| work(client, threads));
    }
}

/// Computes a product on so many threads, if it has enough rows for them.
fn compute(product: Product<'_>, threads: usize) {
    let rows = product.rows();
    if threads < 2 || rows < 2 * LEAST {
        return product.compute(Level::current());
    }
    let (upper, lower) = product.split(rows / 2);
    rayon::join(|| compute(upper, threads / 2), || compute(lower, threads - threads / 2));
}

/// The transpose of a matrix whose rows have `columns` numbers.
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len().checked_div(columns).unwrap_or(0);
    let mut found = vec![0.0; x.len()];
    for (j, column) in found.chunks_exact_mut(rows.max(1)).enumerate() {
        for (i, number) in column.iter_mut().enumerate() {
            *number = x[i * columns + j];
        }
    }
    found
}
