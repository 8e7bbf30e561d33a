//! Which rows of z are held while the rows of x are mixed one after the other, and where.

/// The order in which rows of z come and go: each from its first use to its last one.
///
/// On a ring five rows are held at most, however many there are; on an exponential graph, all of them. Of a z with
/// rows that nobody reads, these are never held.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    slots: usize,
    /// The rows that are read, and where each is held.
    rows: Places,
    slot: Vec<u32>,
    /// All of them with their slots, by rising step of their first use.
    fills: Vec<(usize, u32)>,
    /// Where in `fills` the rows of each step begin; the steps are the rows to mix.
    starts: Vec<usize>,
}

impl Schedule {
    /// Returns the schedule of mixing one row of x after the other, at most 2^32, of which the i-th reads the row
    /// `own[i]` of z and the rows `others(i)`.
    pub(super) fn new<'a>(own: &[usize], others: impl Fn(usize) -> &'a [usize]) -> Self {
        let read = |step: usize| others(step).iter().chain(&own[step..=step]);
        let steps = own.len();
        let mut rows: Vec<_> = (0..steps).flat_map(read).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        let rows = Places(rows);
        let mut used = vec![(usize::MAX, 0); rows.0.len()];
        for step in 0..steps {
            for row in read(step) {
                let at = rows.at(*row);
                let (first, _) = used[at];
                used[at] = (first.min(step), step);
            }
        }
        let (starts, fills) = sorted(steps, used.len(), |at| used[at].0);
        let (ends, drops) = sorted(steps, used.len(), |at| used[at].1);
        let (mut slots, mut free, mut slot) = (0, Vec::new(), vec![0; used.len()]);
        for step in 0..steps {
            for &at in &fills[starts[step]..starts[step + 1]] {
                slot[at] = free.pop().unwrap_or_else(|| {
                    slots += 1;
                    slots as u32 - 1
                });
            }
            free.extend(drops[ends[step]..ends[step + 1]].iter().map(|&at| slot[at]));
        }
        let fills = fills.into_iter().map(|at| (rows.0[at], slot[at])).collect();
        Self { slots, rows, slot, fills, starts }
    }

    /// Rows that are held at a time.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Where a row is held that is read.
    pub(super) fn slot(&self, row: usize) -> u32 {
        self.slot[self.rows.at(row)]
    }

    /// The rows to fill in before row `step` is mixed, and where.
    pub(super) fn fills(&self, step: usize) -> &[(usize, u32)] {
        &self.fills[self.starts[step]..self.starts[step + 1]]
    }
}

/// Some rows, in order.
#[derive(Debug, Clone)]
struct Places(Vec<usize>);

impl Places {
    /// How many of the rows are below `row`, which is one of them.
    fn at(&self, row: usize) -> usize {
        match self.0.get(row) {
            Some(&found) if found == row => row, // all rows below are there, as in a square
            _ => self.0.partition_point(|&other| other < row),
        }
    }
}

/// The numbers below n by rising key, which is below `keys`, and where each key begins.
fn sorted(keys: usize, n: usize, key: impl Fn(usize) -> usize) -> (Vec<usize>, Vec<usize>) {
    let mut numbers: Vec<_> = (0..n).collect();
    numbers.sort_by_key(|&number| key(number));
    let starts = (0..=keys).map(|step| numbers.partition_point(|&number| key(number) < step)).collect();
    (starts, numbers)
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    fn circulant(n: usize, offsets: &[usize]) -> Schedule {
        let rows: Vec<Vec<_>> =
            (0..n).map(|row| offsets.iter().map(|offset| (row + offset) % n).collect()).collect();
        Schedule::new(&(0..n).collect::<Vec<_>>(), |row| &rows[row])
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
                for &(row, slot) in schedule.fills(step) {
                    held[slot as usize] = Some(row);
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

    #[test]
    fn rows_that_nobody_reads_are_never_held() {
        let schedule = Schedule::new(&[7, 2], |step| [&[2, 1 << 40][..], &[7]][step]);
        assert_eq!(schedule.slots(), 3);
        let filled: Vec<_> = (0..2).flat_map(|step| schedule.fills(step)).map(|&(row, _)| row).collect();
        assert_eq!(filled, [2, 7, 1 << 40]);
    }
}
