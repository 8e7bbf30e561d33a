//! Products of small matrices: `out = base + scale * P Q`.
//!
//! A number of the result is one chain of fused multiply-adds, from the first k to the last, so neither the level nor the
//! way in which the result is cut into tiles shows in it.

use super::{Level, STRIP};

/// One product to compute.
pub(crate) struct Product<'a> {
    pub(super) p: Factor<'a>,
    /// Q, `[depth, columns]`.
    pub(super) q: &'a [f32],
    /// Columns of Q and `out`.
    pub(super) columns: usize,
    pub(super) scale: f32,
    /// What is added, `[rows, columns]`; nothing where it is empty.
    pub(super) base: &'a [f32],
    /// `[rows, columns]`.
    pub(super) out: &'a mut [f32],
}

/// P, `[rows, depth]`: the number in row m and column k is `numbers[m * row + k * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a> Factor<'a> {
    /// A matrix whose rows, of `columns` numbers, follow one another.
    pub(crate) fn of_rows(numbers: &'a [f32], columns: usize) -> Self {
        Self { numbers, row: columns, column: 1 }
    }

    /// The transpose of such a matrix.
    pub(crate) fn transposed(numbers: &'a [f32], columns: usize) -> Self {
        Self { numbers, row: 1, column: columns }
    }
}

impl<'a> Product<'a> {
    /// P Q, for Q `[depth, columns]` and `out [rows, columns]`.
    pub(crate) fn new(p: Factor<'a>, q: &'a [f32], columns: usize, out: &'a mut [f32]) -> Self {
        Self { p, q, columns, scale: 1.0, base: &[], out }
    }

    /// The same times `scale`.
    pub(crate) fn times(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// The same, added to `base [rows, columns]`.
    pub(crate) fn onto(self, base: &'a [f32]) -> Self {
        Self { base, ..self }
    }

    pub(crate) fn rows(&self) -> usize {
        self.out.len().checked_div(self.columns).unwrap_or(0)
    }

    pub(super) fn depth(&self) -> usize {
        self.q.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The first `rows` rows, and the others.
    pub(crate) fn split(self, rows: usize) -> (Self, Self) {
        let Self { p, q, columns, scale, base, out } = self;
        let (upper, lower) = out.split_at_mut(rows * columns);
        let (base, rest) = base.split_at(base.len().min(rows * columns));
        let below = Factor { numbers: p.numbers.get(rows * p.row..).unwrap_or(&[]), ..p };
        (
            Self { p, q, columns, scale, base, out: upper },
            Self { p: below, q, columns, scale, base: rest, out: lower },
        )
    }

    /// Whether all numbers that the product reads and writes are there.
    pub(super) fn fits(&self) -> bool {
        let (rows, depth) = (self.rows(), self.depth());
        let last = |count: usize, distance: usize| count.saturating_sub(1).saturating_mul(distance);
        let reach = last(rows, self.p.row).saturating_add(last(depth, self.p.column));
        (rows == 0 || depth == 0 || reach < self.p.numbers.len())
            && (self.base.is_empty() || self.base.len() >= rows * self.columns)
    }

    /// Computes the product.
    pub(crate) fn compute(self, level: Level) {
        match level {
            Level::Portable => self.portable(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => token.product(self),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(token) => token.product(self),
        }
    }

    fn portable(self) {
        let (p, columns) = (self.p, self.columns.max(1));
        for (m, out) in self.out.chunks_exact_mut(columns).enumerate() {
            for (strip, out) in out.chunks_mut(STRIP).enumerate() {
                let mut sums = [0.0_f32; STRIP];
                for (k, q) in self.q.chunks_exact(columns).enumerate() {
                    let p = p.numbers[m * p.row + k * p.column];
                    for (sum, &q) in sums.iter_mut().zip(&q[strip * STRIP..][..out.len()]) {
                        *sum = p.mul_add(q, *sum);
                    }
                }
                for (j, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                    let base = self.base.get(m * columns + strip * STRIP + j);
                    *out = base.map_or(self.scale * sum, |&base| self.scale.mul_add(sum, base));
                }
            }
        }
    }
}
