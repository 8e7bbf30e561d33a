//! The messages of many clients at once: one frame a row, rows side by side in one buffer.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::codec::Codec;
use crate::error::{Error, Fault, Result};
use crate::frame::{HEADER_LEN, Message, Stamp, frame_len, trim};
use crate::philox::Stream;

/// What messages have in common, and which message each is: row i is that of `senders[i]` in `rounds[i]`.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Codec of the payloads.
    pub codec: &'a Codec,
    /// Numbers in each payload.
    pub columns: usize,
    /// Id of the run.
    pub run_id: [u8; 16],
    /// Hash of the manifest.
    pub manifest: [u8; 16],
    /// The round of each row, from 0.
    pub rounds: &'a [u64],
    /// The client of each row.
    pub senders: &'a [u32],
}

impl Batch<'_> {
    /// The number of messages.
    fn rows(&self) -> Result<usize> {
        let rows = self.senders.len();
        check_len("rounds", self.rounds.len(), rows, 1)?;
        Ok(rows)
    }

    /// The message of row `row`, which is one of them.
    fn message(&self, row: usize) -> Message<'_> {
        let Self { codec, columns, run_id, manifest, rounds, senders } = *self;
        let (round, sender) = (rounds[row], senders[row]);
        Message { run_id, manifest, round, sender, codec, elements: columns }
    }
}

/// Frames of one length, one per row.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    len: usize,
    rows: usize,
    columns: usize,
    codec: &'a Codec,
}

impl<'a> Frames<'a> {
    /// Returns `bytes` as the frames of `rows` messages of `columns` numbers.
    ///
    /// # Errors
    /// [`Error::Length`] where `bytes` has another length.
    pub fn new(codec: &'a Codec, bytes: &'a [u8], rows: usize, columns: usize) -> Result<Self> {
        let len = frame_len(codec, columns)?;
        check_len("frames", bytes.len(), rows, len)?;
        Ok(Self { bytes, len, rows, columns, codec })
    }

    /// Returns `bytes` as frames of equal lengths, whatever length that is.
    fn of_any_size(codec: &'a Codec, bytes: &'a [u8], rows: usize, columns: usize) -> Result<Self> {
        let len = match bytes.len().checked_div(rows) {
            Some(len) => len,
            None => frame_len(codec, columns)?,
        };
        check_len("frames", bytes.len(), rows, len)?;
        Ok(Self { bytes, len, rows, columns, codec })
    }

    /// Number of frames.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in each frame.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the message in each row: all of the row, or as many as its header says where the codec has the
    /// entropy stage.
    pub fn lens(&self) -> impl Iterator<Item = usize> {
        self.bytes.chunks_exact(self.len).map(|slot| self.message(slot).len())
    }

    fn message(&self, slot: &'a [u8]) -> &'a [u8] {
        if self.codec.variable_length() { trim(slot) } else { slot }
    }

    /// The payload of one row, or nothing beyond the last one.
    fn payload(&self, row: usize) -> &'a [u8] {
        let slot = self.bytes.chunks_exact(self.len).nth(row).unwrap_or(&[]);
        self.message(slot).get(HEADER_LEN..).unwrap_or(&[])
    }
}

/// Frames that were looked at one by one, and what was found: the only thing that can be decoded.
///
/// [`check_frames`] makes one. A frame is accepted if it is the message that was expected, undamaged, and decodes to
/// finite numbers; one that is refused is never read again, and the others are as good as without it.
#[derive(Debug, Clone)]
pub struct CheckedFrames<'a> {
    frames: Frames<'a>,
    /// For each row what is wrong with it.
    faults: Cow<'a, [Option<Fault>]>,
}

impl<'a> CheckedFrames<'a> {
    /// The frames once more, for a binding whose memory Rust cannot borrow from one call to the next: `bytes` are
    /// those for which [`check_frames`] found `faults`.
    ///
    /// # Errors
    /// [`Error::Length`] where they cannot be, by their number.
    #[doc(hidden)]
    pub fn again(
        codec: &'a Codec,
        columns: usize,
        bytes: &'a [u8],
        faults: &'a [Option<Fault>],
    ) -> Result<Self> {
        let frames = if faults.contains(&None) {
            Frames::new(codec, bytes, faults.len(), columns)?
        } else {
            Frames::of_any_size(codec, bytes, faults.len(), columns)?
        };
        Ok(Self { frames, faults: Cow::Borrowed(faults) })
    }

    /// Number of frames.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.frames.rows
    }

    /// Numbers in each frame.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.frames.columns
    }

    /// What is wrong with each frame: nothing with one that was accepted.
    #[must_use]
    pub fn faults(&self) -> &[Option<Fault>] {
        &self.faults
    }

    /// Checks that all frames were accepted.
    ///
    /// # Errors
    /// [`Error::Frame`] with the first one that was refused.
    pub fn all_accepted(&self) -> Result<()> {
        self.accepted(|_| true)
    }

    /// Checks that those frames were accepted that are `read`.
    pub(crate) fn accepted(&self, read: impl Fn(usize) -> bool) -> Result<()> {
        let refused = self.faults.iter().enumerate().filter_map(|(row, &fault)| Some((row, fault?)));
        match refused.into_iter().find(|&(row, _)| read(row)) {
            Some((row, fault)) => Err(Error::Frame { row: Some(row), fault }),
            None => Ok(()),
        }
    }

    pub(crate) fn codec(&self) -> &'a Codec {
        self.frames.codec
    }

    /// The payload of one row that was accepted.
    pub(crate) fn payload(&self, row: usize) -> Option<&'a [u8]> {
        matches!(self.faults.get(row), Some(None)).then(|| self.frames.payload(row))
    }
}

/// Encodes the rows of `x` (`[senders, columns]`) into the frames of `out`, drawing from
/// [`Stream::quantizer`] of (seed, round, sender). Where the codec has the entropy stage, a row ends with zeros that
/// are not part of the message.
///
/// # Errors
/// [`Error::Length`], [`Error::Argument`] for a round of 2^32 or more, or [`Error::Value`] with the first row
/// and index that cannot be represented; that row's frame is then all zeros.
pub fn encode_frames(batch: &Batch<'_>, x: &[f32], out: &mut [u8], seed: u64) -> Result<()> {
    let rows = batch.rows()?;
    if let Some(round) = batch.rounds.iter().find(|&&round| u32::try_from(round).is_err()) {
        return Err(Error::Argument {
            field: "round",
            value: round.to_string(),
            allowed: "below 2^32, the range of the generator's counter",
        });
    }
    let len = frame_len(batch.codec, batch.columns)?;
    check_len("x", x.len(), rows, batch.columns)?;
    check_len("out", out.len(), rows, len)?;
    first_error(out.par_chunks_exact_mut(len).enumerate(), |(row, frame)| {
        let x = &x[row * batch.columns..][..batch.columns];
        let message = batch.message(row);
        let stream = Stream::quantizer(seed, message.round as u32, message.sender);
        let len = batch
            .codec
            .encode_into(x, &mut frame[HEADER_LEN..], &stream)
            .inspect_err(|_| frame[..HEADER_LEN].fill(0))?;
        message.seal(&mut frame[..HEADER_LEN + len], Stamp::default())
    })
}

/// Checks for each row i of `frames` whether it is the message that `batch` expects of `senders[i]` in `rounds[i]`.
///
/// # Errors
/// [`Error::Length`] where there is not one round, one sender and one frame, all of one length, for each row. What is
/// wrong with a frame is no error here: [`CheckedFrames::faults`] says it.
pub fn check_frames<'a>(batch: &Batch<'a>, frames: &'a [u8]) -> Result<CheckedFrames<'a>> {
    let rows = batch.rows()?;
    let frames = Frames::of_any_size(batch.codec, frames, rows, batch.columns)?;
    let (have, need) = (frames.len, frame_len(batch.codec, batch.columns)?);
    if have != need {
        let faults = Cow::Owned(vec![Some(Fault::Size { have, need }); rows]);
        return Ok(CheckedFrames { frames, faults });
    }
    let faults = frames.bytes.par_chunks_exact(need).enumerate().map(|(row, slot)| {
        match batch.message(row).open(frames.message(slot)) {
            Ok(_) => Ok(None),
            Err(Error::Frame { fault, .. }) => Ok(Some(fault)),
            Err(other) => Err(other),
        }
    });
    Ok(CheckedFrames { frames, faults: faults.collect::<Result<_>>()? })
}

/// Decodes the payloads of `frames` into the rows of `out` (`[rows, columns]`): zeros for a frame that was refused.
///
/// # Errors
/// [`Error::Length`]; `out` is then as it was.
pub fn decode_frames(frames: &CheckedFrames<'_>, out: &mut [f32]) -> Result<()> {
    check_len("out", out.len(), frames.rows(), frames.columns())?;
    if frames.columns() == 0 {
        return Ok(());
    }
    let work = out.par_chunks_exact_mut(frames.columns()).enumerate();
    first_error(work, |(row, out)| match frames.payload(row) {
        Some(payload) => frames.codec().decode_checked_into(payload, out),
        None => {
            out.fill(0.0);
            Ok(())
        }
    })
}

/// Checks that a matrix of `rows` times `columns` has `have` items.
pub(crate) fn check_len(field: &'static str, have: usize, rows: usize, columns: usize) -> Result<()> {
    match rows.checked_mul(columns) {
        Some(need) if need == have => Ok(()),
        need => Err(Error::Length { field, have, need: need.unwrap_or(usize::MAX) }),
    }
}

/// Runs `work` on every row and returns the error of the first row that failed, whatever finished first.
fn first_error<I>(rows: I, work: impl Fn(I::Item) -> Result<()> + Sync + Send) -> Result<()>
where
    I: IndexedParallelIterator,
{
    rows.enumerate()
        .filter_map(|(at, row)| work(row).err().map(|error| (at, error)))
        .min_by_key(|(at, _)| *at)
        .map_or(Ok(()), |(at, error)| Err(error.in_row(at)))
}
