//! Which rows of z are held while the rows of x are mixed one after the other, and where.

/// The order in which rows of z come and go: each from its first use to its last one.
///
/// On a ring five rows are held at most, however many there are; on an exponential graph, all of them.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    slots: usize,
    /// Where each row is held.
    slot: Vec<u32>,
    /// All rows, by rising step of their first use.
    fills: Vec<u32>,
    /// Where in `fills` the rows of each step begin; the steps are the rows to mix.
    starts: Vec<usize>,
}

impl Schedule {
    /// Returns the schedule of `n` rows, of which row i reads the columns `row(i)`; n is at most 2^32.
    pub(super) fn new<'a>(n: usize, row: impl Fn(usize) -> &'a [usize]) -> Self {
        let mut used: Vec<_> = (0..n).map(|row| (row, row)).collect();
        for step in 0..n {
            for &column in row(step) {
                let (first, last) = used[column];
                used[column] = (first.min(step), last.max(step));
            }
        }
        let (starts, fills) = sorted(n, |row| used[row].0);
        let (ends, drops) = sorted(n, |row| used[row].1);
        let (mut slots, mut free, mut slot) = (0, Vec::new(), vec![0; n]);
        for step in 0..n {
            for &row in &fills[starts[step]..starts[step + 1]] {
                slot[row as usize] = free.pop().unwrap_or_else(|| {
                    slots += 1;
                    slots as u32 - 1
                });
            }
            free.extend(drops[ends[step]..ends[step + 1]].iter().map(|&row| slot[row as usize]));
        }
        Self { slots, slot, fills, starts }
    }

    /// Rows that are held at a time.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Where a row is held.
    pub(super) fn slot(&self, row: usize) -> u32 {
        self.slot[row]
    }

    /// The rows to fill in before row `step` is mixed.
    pub(super) fn fills(&self, step: usize) -> impl Iterator<Item = usize> {
        self.fills[self.starts[step]..self.starts[step + 1]].iter().map(|&row| row as usize)
    }
}

/// The numbers below n by rising key, which is below n too, and where each key begins.
fn sorted(n: usize, key: impl Fn(usize) -> usize) -> (Vec<usize>, Vec<u32>) {
    let mut rows: Vec<_> = (0..n as u32).collect();
    rows.sort_by_key(|&row| key(row as usize));
    let starts = (0..=n).map(|step| rows.partition_point(|&row| key(row as usize) < step)).collect();
    (starts, rows)
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    fn circulant(n: usize, offsets: &[usize]) -> Schedule {
        let rows: Vec<Vec<_>> =
            (0..n).map(|row| offsets.iter().map(|offset| (row + offset) % n).collect()).collect();
        Schedule::new(n, |row| &rows[row])
    }

    #[test]
    fn a_ring_holds_five_rows_whatever_its_length() {
        for n in [5, 6, 64, 1000] {
            assert_eq!(circulant(n, &[1, n - 1]).slots(), 5, "{n}");
        }
    }

    #[test]
    fn every_row_is_in_its_slot_from_its_first_use_to_its_last() {
        for (n, offsets) in
            [(1, vec![0]), (2, vec![1]), (16, vec![1, 2, 4, 8]), (30, vec![1, 5, 29]), (7, vec![])]
        {
            let schedule = circulant(n, &offsets);
            let mut held = vec![None; schedule.slots()];
            for step in 0..n {
                for row in schedule.fills(step) {
                    held[schedule.slot(row) as usize] = Some(row);
                }
                for row in offsets.iter().map(|offset| (step + offset) % n).chain([step]) {
                    assert_eq!(
                        held[schedule.slot(row) as usize],
                        Some(row),
                        "row {row} at step {step} of {n}"
                    );
                }
            }
        }
    }
}
