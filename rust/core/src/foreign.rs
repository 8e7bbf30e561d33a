//! Frames of codecs that are not in this crate: the payload is bytes that the caller writes and reads.
//!
//! The header and its checks are those of every other message. A payload may be shorter than its slot; its length
//! stands in the header, where it can only cut.

use rayon::prelude::*;

use crate::batch::check_len;
use crate::error::{Error, Fault, Result};
use crate::frame::{Envelope, HEADER_LEN, Stamp, trim};

/// Which message each row is: row i is that of `senders[i]` in `rounds[i]`.
#[derive(Debug, Clone, Copy)]
pub struct Foreign<'a> {
    /// Most bytes of a payload.
    pub payload_len: usize,
    /// Id of the run.
    pub run_id: [u8; 16],
    /// Hash of the manifest.
    pub manifest: [u8; 16],
    /// The round of each row, from 0.
    pub rounds: &'a [u64],
    /// The client of each row.
    pub senders: &'a [u32],
}

impl Foreign<'_> {
    /// The number of bytes of a row, where `bytes` has one for each sender.
    fn slot(&self, bytes: usize) -> Result<usize> {
        let rows = self.senders.len();
        check_len("rounds", self.rounds.len(), rows, 1)?;
        let slot = self.payload_len.saturating_add(HEADER_LEN);
        check_len("frames", bytes, rows, slot)?;
        Ok(slot)
    }

    fn envelope(&self, row: usize, frame_len: usize) -> Envelope {
        Envelope::foreign(self.run_id, self.manifest, self.rounds[row], self.senders[row], frame_len)
    }
}

/// Writes the header of each row of `frames`, whose payload of `lens[i]` bytes already stands after byte 96; what
/// comes after it is set to zeros.
///
/// # Errors
/// [`Error::Length`], or [`Error::Argument`] for a payload that is longer than its slot; nothing is then written.
pub fn seal_frames(batch: &Foreign<'_>, frames: &mut [u8], lens: &[u64]) -> Result<()> {
    let slot = batch.slot(frames.len())?;
    check_len("lens", lens.len(), batch.senders.len(), 1)?;
    if let Some(len) = lens.iter().find(|&&len| len > batch.payload_len as u64) {
        return Err(Error::Argument {
            field: "lens",
            value: len.to_string(),
            allowed: "at most the bytes of a frame after its header",
        });
    }
    frames.par_chunks_exact_mut(slot).zip(lens).enumerate().try_for_each(|(row, (frame, &len))| {
        let (message, rest) = frame.split_at_mut(HEADER_LEN + len as usize); // at most the slot
        rest.fill(0);
        batch.envelope(row, slot).seal(message, Stamp::default())
    })
}

/// Bytes of the message in each of `rows` equal rows of `frames`: as many as its header says, where it fits the row.
///
/// # Errors
/// [`Error::Length`] where `frames` cannot be cut into so many rows.
pub fn sealed_lens(frames: &[u8], rows: usize) -> Result<Vec<usize>> {
    let slot = frames.len().checked_div(rows).unwrap_or(0);
    check_len("frames", frames.len(), rows, slot)?;
    Ok(frames.chunks_exact(slot.max(1)).map(|frame| trim(frame).len()).collect())
}

/// Returns for each row i of `frames` the bytes of its payload where it is, undamaged, the message that `batch`
/// expects of `senders[i]` in `rounds[i]`, else what is wrong with it. What the payload holds is not looked at.
///
/// # Errors
/// [`Error::Length`] where there is not one round, one sender and one frame for each row.
pub fn open_frames(batch: &Foreign<'_>, frames: &[u8]) -> Result<Vec<Result<usize, Fault>>> {
    let slot = batch.slot(frames.len())?;
    let opened = frames.par_chunks_exact(slot).enumerate();
    Ok(opened.map(|(row, frame)| Ok(batch.envelope(row, slot).open(trim(frame))?.1.len())).collect())
}
