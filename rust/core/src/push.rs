//! Push-sum: rows that say how each sender splits its mass, for graphs whose senders cannot be balanced.
//!
//! ```text
//! x_i += gamma * (sum over j != i of m_ji z_j - (sum over j != i of m_ij) z_i)
//! ```
//!
//! What j gives to i is added to i and taken from j, so the sum over rows stays whatever z is. Done with x and with
//! a weight that starts at 1, x_i / w_i goes to the mean on any strongly connected graph (Kempe, Dobra and Gehrke
//! 2003; Assran et al. 2019, "Stochastic gradient push", arXiv 1811.10792).

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::Result;
use crate::kernels::{Level, Push};
use crate::mixing::{MixingMatrix, checked_gamma, checked_own};
use crate::real::Real;

/// Columns of a row that one thread takes at a time.
const WIDTH: usize = 4096;

impl MixingMatrix {
    /// Spreads the rows of `x` (`[clients, columns]`) by the rows of this matrix: row j is how client j splits its
    /// own, its own share on the diagonal. The sums are in f64, in the order of j.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the sizes do not fit,
    /// [`Error::Argument`](crate::Error::Argument) where `gamma` is not finite,
    /// [`Error::Matrix`](crate::Error::Matrix) unless the matrix is square and row i is client i: its rows are those of
    /// the senders, and all who send are to be known.
    pub fn push_into<T: Real + Into<f64>>(&self, z: &[T], x: &mut [T], gamma: f64) -> Result<()> {
        let own: Vec<_> = (0..self.local() as i64).collect(); // the length of a slice: no overflow
        self.push_rows_into(z, x, &own, gamma)
    }

    /// [`MixingMatrix::push_into`] where only the clients `own` are here: `z` has the rows of all clients, `x` theirs.
    ///
    /// # Errors
    /// As [`MixingMatrix::push_into`], and [`Error::Matrix`](crate::Error::Matrix) where `own` is not some of the
    /// clients, each once.
    pub fn push_rows_into<T>(&self, z: &[T], x: &mut [T], own: &[i64], gamma: f64) -> Result<()>
    where
        T: Real + Into<f64>,
    {
        self.check_square("push-sum")?;
        let columns = self.columns_of("z", z.len())?;
        check_len("x", x.len(), own.len(), columns)?;
        let own = checked_own(own, own.len(), self.known())?;
        let gamma = checked_gamma(gamma)?;
        if columns == 0 {
            return Ok(());
        }
        let level = Level::current();
        let (received, sent) = self.shares();
        x.par_chunks_exact_mut(columns).zip(&own).for_each(|(row, &i)| {
            row.par_chunks_mut(WIDTH).enumerate().for_each(|(t, x)| {
                let at = |client: usize| client * columns + t * WIDTH;
                let terms: Vec<_> = received[i].iter().map(|&(weight, j)| (weight, at(j))).collect();
                Push { x, z, own: at(i), terms: &terms, out: sent[i], gamma }.push(level);
            });
        });
        Ok(())
    }

    /// What each client gets, as weight and sender by rising sender, and the weight of all that it sends.
    fn shares(&self) -> (Vec<Vec<(f64, usize)>>, Vec<f64>) {
        let n = self.known(); // of a square: no more than there are rows
        let (mut received, mut sent) = (vec![Vec::new(); n], vec![0.0; n]);
        for (j, sent) in sent.iter_mut().enumerate() {
            for (i, weight) in self.row(j).filter(|&(i, _)| i != j) {
                received[i].push((weight, j));
                *sent += weight;
            }
        }
        (received, sent)
    }
}
