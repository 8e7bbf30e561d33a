//! The mixing matrix: sparse rows that were checked once.

use super::schedule::Schedule;
use crate::batch::check_len;
use crate::error::{Error, Result};

const ROW_SUM_TOLERANCE: f64 = 1e-9;

/// A mixing matrix in compressed sparse rows that was checked: non-negative rows that sum to 1.
///
/// It is a rectangle `[local, known]`: a row for each client that is mixed here, a column for each whose values are
/// known here, and for each row the place of its own client among the known. A whole graph is a square, in which row
/// i is client i.
#[derive(Debug, Clone)]
pub struct MixingMatrix {
    starts: Vec<usize>,
    columns: Vec<usize>,
    weights: Vec<f64>,
    known: usize,
    /// The place of each row's own client among the known.
    own: Vec<usize>,
    pub(super) schedule: Schedule,
}

impl MixingMatrix {
    /// Returns the `[n, n]` matrix with row pointers `indptr` (`n + 1`), column `indices` and `weights`, in which row i
    /// is client i.
    ///
    /// # Errors
    /// [`Error::Matrix`] unless the row pointers are in order and cover all entries, the indices of each row
    /// increase and are below `n`, the weights are finite and not negative, and each row sums to 1 within
    /// 1e-9.
    pub fn new(indptr: &[i64], indices: &[i64], weights: &[f64]) -> Result<Self> {
        let n = indptr.len().saturating_sub(1);
        let own: Vec<_> = (0..n as i64).collect(); // the length of a slice: no overflow
        Self::rectangle(indptr, indices, weights, n, &own)
    }

    /// Returns the `[local, known]` matrix in which row i is the client at the place `own[i]` of the known.
    ///
    /// # Errors
    /// As [`MixingMatrix::new`], for indices below `known`, and unless `own` has one place for each row, each below
    /// `known` and no two the same.
    pub fn rectangle(
        indptr: &[i64],
        indices: &[i64],
        weights: &[f64],
        known: usize,
        own: &[i64],
    ) -> Result<Self> {
        let fault = |row: usize, what: String| Error::Matrix { row, what };
        let starts = checked_starts(indptr, indices.len())?;
        if indices.len() != weights.len() {
            let (i, w) = (indices.len(), weights.len());
            return Err(fault(0, format!("indices has {i} items and weights {w}; they must have the same.")));
        }
        if known as u64 > 1 << 32 {
            return Err(fault(0, format!("known={known}; 2^32 clients are the most.")));
        }
        let place = |index: i64| usize::try_from(index).ok().filter(|&place| place < known);
        let mut columns = Vec::with_capacity(indices.len());
        for (row, entries) in starts.windows(2).map(|ends| ends[0]..ends[1]).enumerate() {
            let mut after = 0;
            for (&index, &weight) in indices[entries.clone()].iter().zip(&weights[entries.clone()]) {
                let column = place(index).ok_or_else(|| fault(row, no_client("index", index, known)))?;
                if column < after {
                    return Err(fault(
                        row,
                        format!("index {index} is out of order; indices must increase, each once."),
                    ));
                }
                if !(weight.is_finite() && weight >= 0.0) {
                    return Err(fault(
                        row,
                        format!("weight {weight} of client {index} must be finite and not negative."),
                    ));
                }
                after = column + 1;
                columns.push(column);
            }
            let sum = weights[entries].iter().fold(0.0, |sum, weight| sum + weight);
            if (sum - 1.0).abs() > ROW_SUM_TOLERANCE {
                return Err(fault(
                    row,
                    format!("weights sum to {sum}; they must sum to 1 within {ROW_SUM_TOLERANCE:e}."),
                ));
            }
        }
        let own = checked_own(own, starts.len() - 1, known)?;
        let schedule = Schedule::new(&own, |row| &columns[starts[row]..starts[row + 1]]);
        Ok(Self { starts, columns, weights: weights.to_vec(), known, own, schedule })
    }

    /// Returns the matrix of the same clients with other rows of (place, weight), by rising place.
    pub(crate) fn with_rows(&self, rows: &[Vec<(usize, f64)>]) -> Result<Self> {
        let mut indptr = vec![0];
        let (mut indices, mut weights) = (Vec::new(), Vec::new());
        for row in rows {
            indices.extend(row.iter().map(|&(place, _)| place as i64)); // places came as i64
            weights.extend(row.iter().map(|&(_, weight)| weight));
            indptr.push(indices.len() as i64);
        }
        let own: Vec<_> = self.own.iter().map(|&place| place as i64).collect();
        Self::rectangle(&indptr, &indices, &weights, self.known, &own)
    }

    /// Number of rows: the clients that are mixed here.
    #[must_use]
    pub fn local(&self) -> usize {
        self.own.len()
    }

    /// Number of columns: the clients whose values are known here.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known
    }

    /// The place of each row's own client among the known.
    #[must_use]
    pub fn own(&self) -> &[usize] {
        &self.own
    }

    /// Checks that this is the matrix of a whole graph: row i is client i, and there are no others.
    pub(crate) fn check_square(&self, what: &str) -> Result<()> {
        let row = (0..self.local().max(self.known)).find(|&row| self.own.get(row) != Some(&row));
        row.map_or(Ok(()), |row| {
            let found = match self.own.get(row) {
                Some(own) => format!("it is client {own}"),
                None => format!("there is none, but {} clients are known", self.known),
            };
            let what = format!("{found}; {what} needs a square matrix whose row i is client i.");
            Err(Error::Matrix { row, what })
        })
    }

    /// Number of stored entries.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.weights.len()
    }

    /// The entries of one row: place among the known and weight, by rising place.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let entries = self.starts[row]..self.starts[row + 1];
        self.columns[entries.clone()].iter().copied().zip(self.weights[entries].iter().copied())
    }

    /// Which rows of z some row moves by: those of its entries, and its own if it has others.
    pub(super) fn read(&self) -> Vec<bool> {
        let mut read = vec![false; self.known];
        for (i, &own) in self.own.iter().enumerate() {
            for (j, _) in self.row(i).filter(|&(j, _)| j != own) {
                read[j] = true;
                read[own] = true;
            }
        }
        read
    }

    /// Columns of a matrix of `len` items with one row per known client.
    pub(crate) fn columns_of(&self, field: &'static str, len: usize) -> Result<usize> {
        let columns = len / self.known; // at least one: a row sums to 1
        check_len(field, len, self.known, columns)?;
        Ok(columns)
    }
}

/// Returns the row pointers of `nnz` entries, which were checked.
fn checked_starts(indptr: &[i64], nnz: usize) -> Result<Vec<usize>> {
    let fault = |row: usize, what: String| Error::Matrix { row, what };
    let len = indptr.len();
    if len < 2 {
        return Err(fault(0, format!("indptr has {len} items; it needs clients + 1, at least 2.")));
    }
    let n = len - 1;
    if u32::try_from(n).is_err() {
        return Err(fault(0, format!("indptr has {len} items; 2^32 clients are the most.")));
    }
    let mut starts = Vec::with_capacity(len);
    for (at, &value) in indptr.iter().enumerate() {
        let start = usize::try_from(value).ok().filter(|&start| {
            let first = at > 0 || start == 0;
            let last = if at == n { start == nnz } else { start <= nnz };
            first && last && starts.last().is_none_or(|&before| before <= start)
        });
        starts.push(start.ok_or_else(|| {
            let what = format!("indptr[{at}]={value}; it must go from 0 to {nnz} without a step back.");
            fault(at.saturating_sub(1), what)
        })?);
    }
    Ok(starts)
}

/// Returns the places of the clients of `rows` rows among the `known`, which were checked.
pub(crate) fn checked_own(own: &[i64], rows: usize, known: usize) -> Result<Vec<usize>> {
    let fault = |row: usize, what: String| Error::Matrix { row, what };
    if own.len() != rows {
        return Err(fault(0, format!("own has {} items; it needs one per row, {rows}.", own.len())));
    }
    let places = own.iter().enumerate().map(|(row, &place)| {
        let found = usize::try_from(place).ok().filter(|&place| place < known);
        found.ok_or_else(|| fault(row, no_client("own", place, known)))
    });
    let places = places.collect::<Result<Vec<_>>>()?;
    let mut order: Vec<_> = (0..rows).collect();
    order.sort_by_key(|&row| places[row]);
    match order.windows(2).find(|pair| places[pair[0]] == places[pair[1]]) {
        Some(&[before, row]) => {
            Err(fault(row, format!("own {} is the place of row {before}, too.", own[row])))
        }
        _ => Ok(places),
    }
}

/// What is wrong with a place that is none of the `known`.
fn no_client(field: &str, place: i64, known: usize) -> String {
    match known {
        0 => format!("{field} {place} is not a client; there are none."),
        _ => format!("{field} {place} is not a client; it must be from 0 to {}.", known - 1),
    }
}
