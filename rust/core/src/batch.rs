//! The messages of many clients at once: one frame a row, rows side by side in one buffer.

use rayon::prelude::*;

use crate::codec::Codec;
use crate::error::{Error, Fault, Result};
use crate::frame::{Delivery, HEADER_LEN, Message, frame_len, trim};
use crate::philox::Stream;

/// What the messages of one round have in common, and who sends them: row i is by `senders[i]`.
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
    /// Round of the run, from 0.
    pub round: u64,
    /// The client of each row.
    pub senders: &'a [u32],
}

impl Batch<'_> {
    fn message(&self, sender: u32) -> Message<'_> {
        let Self { codec, columns, run_id, manifest, round, .. } = *self;
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

    pub(crate) fn codec(&self) -> &'a Codec {
        self.codec
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
    pub(crate) fn payload(&self, row: usize) -> &'a [u8] {
        let slot = self.bytes.chunks_exact(self.len).nth(row).unwrap_or(&[]);
        self.message(slot).get(HEADER_LEN..).unwrap_or(&[])
    }

    /// Checks the payloads: lengths, scales, codes, finite numbers.
    pub(crate) fn check_payloads(&self) -> Result<()> {
        first_error((0..self.rows).into_par_iter(), |row| {
            self.codec.check_payload(self.payload(row), self.columns)
        })
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
    let rows = batch.senders.len();
    let round = u32::try_from(batch.round).map_err(|_| Error::Argument {
        field: "round",
        value: batch.round.to_string(),
        allowed: "below 2^32, the range of the generator's counter",
    })?;
    let len = frame_len(batch.codec, batch.columns)?;
    check_len("x", x.len(), rows, batch.columns)?;
    check_len("out", out.len(), rows, len)?;
    let work = out.par_chunks_exact_mut(len).zip(batch.senders).enumerate();
    first_error(work, |(row, (frame, &sender))| {
        let x = &x[row * batch.columns..][..batch.columns];
        let stream = Stream::quantizer(seed, round, sender);
        let len = batch
            .codec
            .encode_into(x, &mut frame[HEADER_LEN..], &stream)
            .inspect_err(|_| frame[..HEADER_LEN].fill(0))?;
        batch.message(sender).seal(&mut frame[..HEADER_LEN + len], Delivery::default())
    })
}

/// Checks that row i of `frames` is the message that `batch` expects of `senders[i]`.
///
/// # Errors
/// [`Error::Frame`] with the first row at fault, or [`Error::Length`].
pub fn check_frames(batch: &Batch<'_>, frames: &[u8]) -> Result<()> {
    let rows = batch.senders.len();
    let len = frame_len(batch.codec, batch.columns)?;
    if rows.checked_mul(len) != Some(frames.len()) {
        return Err(Fault::Size { have: frames.len() / rows.max(1), need: len }.into());
    }
    let frames = Frames::new(batch.codec, frames, rows, batch.columns)?;
    first_error(frames.bytes.par_chunks_exact(len).zip(batch.senders), |(slot, &sender)| {
        batch.message(sender).open(frames.message(slot)).map(drop)
    })
}

/// Decodes the payloads of `frames` into the rows of `out` (`[rows, columns]`); headers are not read.
///
/// # Errors
/// [`Error::Frame`] with the first row whose payload cannot be decoded, or [`Error::Length`]; `out` is then
/// as it was.
pub fn decode_frames(frames: &Frames<'_>, out: &mut [f32]) -> Result<()> {
    check_len("out", out.len(), frames.rows, frames.columns)?;
    frames.check_payloads()?;
    if frames.columns == 0 {
        return Ok(());
    }
    let work = out.par_chunks_exact_mut(frames.columns).enumerate();
    first_error(work, |(row, out)| frames.codec.decode_checked_into(frames.payload(row), out))
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
