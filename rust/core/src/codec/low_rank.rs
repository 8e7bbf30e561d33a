//! Every matrix by two thin ones, as PowerSGD does (Vogels et al. 2019, arXiv 1905.13727).
//!
//! M ~ P Q^T with P an orthonormal basis of M Q0 and Q = M^T P, so z is the projection of M onto the span of P:
//! contractive, never longer than x. Q0 is drawn at random and improved by `iterations` passes (the paper keeps
//! it from step to step instead). A matrix that two thin ones would not make smaller is sent as it is. The
//! payload is one payload after the other of P, of Q and of whole matrices.
//!
//! In a matrix that becomes two, numbers below 2^-70 count as zeros, as do those of P below 2^-32 and of Q below 2^-70 at
//! both ends: products are multiples of 2^-125, and so no sum of them is subnormal, which would take many CPUs a hundred
//! times as long.

use std::ops::Range;
use std::sync::Arc;

use super::{Coder, Ranges, Values, check_elements};
use crate::error::{Error, Fault, Result};
use crate::kernels::first_beyond;
use crate::kernels::portable::random_u16;
use crate::philox::Stream;
use crate::scratch::Scratch;

const MAX_RANK: usize = 1024;
const MAX_ITERATIONS: usize = 100;
/// 2^80: Q stays below it, P below 2, so no number of their product is infinite, whatever the rank.
const LIMIT: f32 = f32::from_bits(0x6780_0000);
/// 2^-70: smaller numbers of a matrix, or of Q, count as zeros.
const LEAST: f32 = f32::from_bits(0x1C80_0000);
/// 2^-32: smaller numbers of P count as zeros.
const LEAST_P: f32 = f32::from_bits(0x2F80_0000);
/// A column that is shorter than this beside what it was before is taken for rounding and dropped.
const DEPENDENT: f64 = 1e-10;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LowRank {
    rank: usize,
    iterations: usize,
    values: Values,
    matrices: Arc<[Matrix]>,
}

/// A run of numbers that is a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Matrix {
    rows: usize,
    columns: usize,
}

impl Matrix {
    fn numbers(self) -> usize {
        self.rows * self.columns
    }

    /// Numbers of P and Q, or none where these would not be fewer.
    fn factors(self, rank: usize) -> Option<(usize, usize)> {
        // A matrix without columns may have any number of rows.
        let (p, q) = (self.rows.saturating_mul(rank), self.columns.saturating_mul(rank));
        (p.saturating_add(q) < self.numbers()).then_some((p, q))
    }
}

/// A run of the numbers that are sent.
#[derive(Clone, Copy)]
struct Part {
    numbers: usize,
    /// Magnitudes are below this.
    limit: f32,
    /// Smaller magnitudes count as zeros.
    least: f32,
}

impl Part {
    fn flush(self, numbers: &mut [f32]) {
        numbers.iter_mut().for_each(|x| *x = flushed(*x, self.least));
    }
}

/// `x`, or 0 where it is below `least` in magnitude: compared as integers, as a subnormal float may be slow to look at.
#[inline(always)]
fn flushed(x: f32, least: f32) -> f32 {
    if x.to_bits() & 0x7FFF_FFFF < least.to_bits() { 0.0 } else { x }
}

impl LowRank {
    pub(crate) fn new(rank: usize, iterations: usize, values: Values) -> Result<Self> {
        let refuse = |field, value: usize, allowed| {
            Err(Error::CodecSetting { field, value: value.to_string(), allowed })
        };
        if !(1..=MAX_RANK).contains(&rank) {
            return refuse("rank", rank, "1 to 1024");
        }
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return refuse("iterations", iterations, "1 to 100");
        }
        Ok(Self { rank, iterations, values, matrices: Arc::new([]) })
    }

    pub(crate) fn with_shapes(&self, shapes: &[(usize, usize)]) -> Result<Self> {
        let total = shapes.iter().try_fold(0_usize, |total, &(rows, columns)| {
            rows.checked_mul(columns).and_then(|numbers| total.checked_add(numbers))
        });
        check_elements(total.unwrap_or(usize::MAX))?;
        let matrices = shapes.iter().map(|&(rows, columns)| Matrix { rows, columns }).collect();
        Ok(Self { matrices, ..self.clone() })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn iterations(&self) -> usize {
        self.iterations
    }

    pub(crate) fn values(&self) -> Values {
        self.values
    }

    /// 1 - rank / min(rows, columns) of the matrix where that is largest: what is lost of one whose singular values are
    /// all equal, where a subspace is as good as another.
    pub(crate) fn error_bound(&self) -> f64 {
        let loss = |matrix: &Matrix| match matrix.factors(self.rank) {
            Some(_) => 1.0 - self.rank as f64 / matrix.rows.min(matrix.columns) as f64,
            None => 0.0,
        };
        self.matrices.iter().map(loss).fold(0.0, f64::max)
    }

    pub(crate) fn numbers(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.numbers()).sum()
    }

    /// What is sent: for each matrix its numbers, or those of P and those of Q, and below what they stay.
    fn parts(&self) -> impl Iterator<Item = Part> {
        self.matrices.iter().flat_map(|matrix| match matrix.factors(self.rank) {
            Some((p, q)) => [
                Part { numbers: p, limit: 2.0, least: LEAST_P },
                Part { numbers: q, limit: LIMIT, least: LEAST },
            ],
            None => [matrix.numbers(), 0].map(|numbers| Part { numbers, limit: f32::INFINITY, least: 0.0 }),
        })
    }

    fn sent(&self) -> usize {
        self.parts().map(|part| part.numbers).sum()
    }

    /// Runs `work` on the payload and numbers of each part, with the part itself and its index.
    fn each<'a, 'b, E>(
        &self,
        mut payload: &'a [u8],
        mut sent: &'b mut [f32],
        mut work: impl FnMut(usize, Part, &'a [u8], &'b mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (at, part) in self.parts().enumerate() {
            let (bytes, numbers);
            (bytes, payload) = payload.split_at(self.part_len(part));
            (numbers, sent) = sent.split_at_mut(part.numbers);
            work(at, part, bytes, numbers)?;
        }
        Ok(())
    }

    fn part_len(&self, part: Part) -> usize {
        // The whole is at most as long as an array in memory.
        self.values.coder().payload_len(part.numbers).map_or(0, |len| len as usize)
    }

    /// Writes what is sent of `x` to `sent`.
    fn compress(&self, x: &[f32], sent: &mut [f32], stream: &Stream) {
        let (mut x, mut rest) = (x, sent);
        for (at, shape) in self.matrices.iter().enumerate() {
            let m;
            (m, x) = x.split_at(shape.numbers());
            let Some((p_len, q_len)) = shape.factors(self.rank) else {
                let whole;
                (whole, rest) = rest.split_at_mut(m.len());
                whole.copy_from_slice(m);
                continue;
            };
            let factors;
            (factors, rest) = rest.split_at_mut(p_len + q_len);
            f64::scratch(p_len + q_len, |wide| {
                let (p, q) = wide.split_at_mut(p_len);
                self.factorize(*shape, m, &stream.subspace(at as u32), p, q);
                factors.iter_mut().zip(&*wide).for_each(|(out, &value)| *out = value as f32);
            });
        }
    }

    /// P (`[rows, rank]`) and Q (`[columns, rank]`) of the matrix `m`, row-major.
    fn factorize(&self, shape: Matrix, m: &[f32], stream: &Stream, p: &mut [f64], q: &mut [f64]) {
        let rank = self.rank;
        let wide = |m| f64::from(flushed(m, LEAST));
        for (chunk, q) in q.chunks_mut(128).enumerate() {
            let numbers = random_u16(stream, chunk as u32);
            q.iter_mut().zip(numbers).for_each(|(q, number)| *q = f64::from(number) - 32767.5);
        }
        for _ in 0..self.iterations {
            for (row, p) in m.chunks_exact(shape.columns).zip(p.chunks_exact_mut(rank)) {
                p.fill(0.0);
                for (&m, q) in row.iter().zip(q.chunks_exact(rank)) {
                    p.iter_mut().zip(q).for_each(|(p, q)| *p += wide(m) * q);
                }
            }
            orthonormalize(p, rank);
            q.fill(0.0);
            for (row, p) in m.chunks_exact(shape.columns).zip(p.chunks_exact(rank)) {
                for (&m, q) in row.iter().zip(q.chunks_exact_mut(rank)) {
                    q.iter_mut().zip(p).for_each(|(q, p)| *q += wide(m) * p);
                }
            }
        }
    }
}

/// Makes the columns of `p` (`[rows, rank]`, row-major) orthonormal, by the Gram-Schmidt process, each column twice; a
/// column that depends on those before it becomes zero.
fn orthonormalize(p: &mut [f64], rank: usize) {
    let dot = |p: &[f64], a: usize, b: usize| p.chunks_exact(rank).map(|row| row[a] * row[b]).sum::<f64>();
    for column in 0..rank {
        let before = dot(p, column, column).sqrt();
        for _ in 0..2 {
            for other in 0..column {
                let along = dot(p, column, other);
                p.chunks_exact_mut(rank).for_each(|row| row[column] -= along * row[other]);
            }
        }
        let length = dot(p, column, column).sqrt();
        let factor = if length > DEPENDENT * before { 1.0 / length } else { 0.0 };
        p.chunks_exact_mut(rank).for_each(|row| row[column] *= factor);
    }
}

impl Coder for LowRank {
    fn payload_len(&self, n: usize) -> Result<u64> {
        let need = self.numbers();
        if n != need {
            return Err(Error::Shapes { have: n, need });
        }
        Ok(self.parts().map(|part| self.part_len(part) as u64).sum())
    }

    /// No number of Q is above those of x times the root of the rows, and rounding does not double it.
    fn limit(&self, _: usize) -> f32 {
        let rows = self.matrices.iter().map(|matrix| matrix.rows).max().unwrap_or(1);
        LIMIT.min(self.values.coder().limit(1)) / (2.0 * (rows as f32).sqrt())
    }

    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        if let Some(at) = first_beyond(x, self.limit(x.len())) {
            return Err(at);
        }
        f32::scratch(self.sent(), |sent| {
            self.compress(x, sent, stream);
            let (mut sent, mut out) = (sent, out);
            for (at, part) in self.parts().enumerate() {
                let (numbers, bytes);
                (numbers, sent) = sent.split_at_mut(part.numbers);
                (bytes, out) = out.split_at_mut(self.part_len(part));
                part.flush(numbers);
                self.values.coder().encode(numbers, bytes, &stream.part(at as u32))?;
            }
            Ok(())
        })
    }

    fn check(&self, payload: &[u8], _: usize) -> Result<(), Fault> {
        f32::scratch(self.sent(), |sent| {
            self.each(payload, sent, |part, limits, bytes, numbers| {
                self.values.coder().check(bytes, numbers.len())?;
                self.values.coder().decode(bytes, numbers);
                match first_beyond(numbers, limits.limit) {
                    Some(index) => Err(Fault::Factor { part, index }),
                    None => Ok(()),
                }
            })
        })
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        f32::scratch(self.sent(), |sent| {
            let decoded: Result<(), std::convert::Infallible> =
                self.each(payload, sent, |_, part, bytes, numbers| {
                    self.values.coder().decode(bytes, numbers);
                    part.flush(numbers);
                    Ok(())
                });
            let Ok(()) = decoded;
            let (mut rest, mut sent) = (out, &*sent);
            for shape in self.matrices.iter() {
                let m;
                (m, rest) = rest.split_at_mut(shape.numbers());
                let Some((p_len, q_len)) = shape.factors(self.rank) else {
                    let whole;
                    (whole, sent) = sent.split_at(m.len());
                    m.copy_from_slice(whole);
                    continue;
                };
                let (p, q);
                (p, sent) = sent.split_at(p_len);
                (q, sent) = sent.split_at(q_len);
                for (row, p) in m.chunks_exact_mut(shape.columns).zip(p.chunks_exact(self.rank)) {
                    for (value, q) in row.iter_mut().zip(q.chunks_exact(self.rank)) {
                        *value = p.iter().zip(q).fold(0.0, |sum, (p, q)| sum + p * q);
                    }
                }
            }
        });
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        let len = self.payload_len(n).map_or(0, |len| len as usize);
        (0..len, self.values.coder().compressible(self.sent()).1)
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        None
    }
}
