//! The header of a message: 96 little-endian bytes that say what the payload is, and prove it.
//!
//! | bytes | field | bytes | field |
//! |---|---|---|---|
//! | 0..4 | magic "DLRA" | 56..60 | block of the codec, 0 without one |
//! | 4, 5 | version 1, 0 | 60..64 | CRC32C of the payload |
//! | 6 | kind, 1 (adapter) | 64..72 | payload length |
//! | 7 | flags, 0 | 72..80 | incarnation of the sender |
//! | 8..24 | run id | 80..88 | sequence number |
//! | 24..40 | manifest hash | 88..92 | reserved, 0 |
//! | 40..48 | round | 92..96 | CRC32C of bytes 0..92 |
//! | 48..52 | sender | | |
//! | 52..56 | codec id ([`Codec::id`]) | | |
//!
//! A receiver knows all of it but incarnation and sequence number beforehand, so a header is compared, not believed.
//! The payload length in it decides one thing: where in a slot of known size a message ends that the entropy stage
//! made shorter. It can only cut, and the message that is left must still pass every check.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::codec::Codec;
use crate::crc32c;
use crate::error::{Error, Fault, Result};

/// Bytes of the header.
pub const HEADER_LEN: usize = 96;

const MAGIC: [u8; 4] = *b"DLRA";
const VERSION: (u8, u8) = (1, 0);
const KIND_ADAPTER: u8 = 1;
const CHECKED: usize = 92;

/// Id of all codecs that are not in this crate; the manifest tells them apart.
const FOREIGN: u32 = 127;

/// What both ends know of a message before it is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Message<'a> {
    /// Id of the run.
    pub run_id: [u8; 16],
    /// Hash of the manifest that the peers agreed on.
    pub manifest: [u8; 16],
    /// Round of the run, from 0.
    pub round: u64,
    /// Client that made the message.
    pub sender: u32,
    /// Codec of the payload.
    pub codec: &'a Codec,
    /// Numbers in the payload.
    pub elements: usize,
}

/// What only the sender knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// How often the sender was started.
    pub incarnation: u64,
    /// Number of the message in this incarnation.
    pub sequence: u64,
}

impl Message<'_> {
    /// Bytes of the whole frame; the most that it has where the codec has the entropy stage.
    ///
    /// # Errors
    /// As [`Codec::payload_len`].
    pub fn frame_len(&self) -> Result<usize> {
        frame_len(self.codec, self.elements)
    }

    /// Writes the header in front of the payload that `frame` already holds after byte 96.
    ///
    /// # Errors
    /// [`Error::Length`] where `frame` has another length than [`Message::frame_len`], or more bytes than that where
    /// the codec has the entropy stage.
    pub fn seal(&self, frame: &mut [u8], stamp: Stamp) -> Result<()> {
        self.envelope()?.seal(frame, stamp)
    }

    /// Checks that `frame` is this message, undamaged, and that its payload can be decoded.
    ///
    /// # Errors
    /// [`Error::Frame`] with the first [`Fault`].
    pub fn open(&self, frame: &[u8]) -> Result<Stamp> {
        let (stamp, payload) = self.envelope()?.open(frame)?;
        self.codec.check_payload(payload, self.elements)?;
        Ok(stamp)
    }

    fn envelope(&self) -> Result<Envelope> {
        let Self { run_id, manifest, round, sender, codec, .. } = *self;
        let (frame_len, shorter) = (self.frame_len()?, codec.variable_length());
        Ok(Envelope {
            run_id,
            manifest,
            round,
            sender,
            codec: codec.id(),
            block: codec.block(),
            frame_len,
            shorter,
        })
    }
}

/// A message to which its payload is bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    run_id: [u8; 16],
    manifest: [u8; 16],
    round: u64,
    sender: u32,
    /// Id of the codec.
    codec: u32,
    block: u32,
    /// Bytes of the whole frame.
    frame_len: usize,
    /// Whether it may have fewer.
    shorter: bool,
}

impl Envelope {
    /// That of a codec which is not in this crate: at most `frame_len` bytes.
    pub(crate) fn foreign(
        run_id: [u8; 16],
        manifest: [u8; 16],
        round: u64,
        sender: u32,
        frame_len: usize,
    ) -> Self {
        Self { run_id, manifest, round, sender, codec: FOREIGN, block: 0, frame_len, shorter: true }
    }

    fn fits(&self, len: usize) -> bool {
        len == self.frame_len || self.shorter && len < self.frame_len
    }

    pub(crate) fn seal(&self, frame: &mut [u8], stamp: Stamp) -> Result<()> {
        let (have, need) = (frame.len(), self.frame_len);
        let Some((header, payload)) = frame.split_first_chunk_mut().filter(|_| self.fits(have)) else {
            return Err(Error::Length { field: "frame", have, need });
        };
        *header = self.header(payload, stamp);
        Ok(())
    }

    fn header(&self, payload: &[u8], stamp: Stamp) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let fields: [&[u8]; 12] = [
            &MAGIC,
            &[VERSION.0, VERSION.1, KIND_ADAPTER, 0],
            &self.run_id,
            &self.manifest,
            &self.round.to_le_bytes(),
            &self.sender.to_le_bytes(),
            &self.codec.to_le_bytes(),
            &self.block.to_le_bytes(),
            &crc32c(payload).to_le_bytes(),
            &(payload.len() as u64).to_le_bytes(),
            &stamp.incarnation.to_le_bytes(),
            &stamp.sequence.to_le_bytes(),
        ];
        header.iter_mut().zip(fields.into_iter().flatten()).for_each(|(out, &byte)| *out = byte);
        let checksum = crc32c(&header[..CHECKED]);
        header[CHECKED..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Checks that `frame` is this message, undamaged, and returns its payload, which may be any bytes.
    pub(crate) fn open<'a>(&self, frame: &'a [u8]) -> Result<(Stamp, &'a [u8]), Fault> {
        let need = self.frame_len;
        let wrong_size = Fault::Size { have: frame.len(), need };
        let (header, payload) = frame.split_first_chunk().ok_or(wrong_size)?;
        let fits = self.fits(frame.len());
        let agreed = if fits { payload.len() } else { need.saturating_sub(HEADER_LEN) };
        let stamp = self.compare(header, agreed as u64)?;
        if !fits {
            return Err(wrong_size);
        }
        if crc32c(payload) != u32::from_le_bytes(field(header, 60)) {
            return Err(Fault::PayloadChecksum);
        }
        Ok((stamp, payload))
    }

    fn compare(&self, header: &[u8; HEADER_LEN], payload_len: u64) -> Result<Stamp, Fault> {
        let byte = |at| u8::from_le_bytes(field(header, at));
        let number = |at| u32::from_le_bytes(field(header, at));
        let long = |at| u64::from_le_bytes(field(header, at));
        let require = |holds: bool, fault: Fault| if holds { Ok(()) } else { Err(fault) };

        // Magic and version first: a header of another version may be laid out in another way.
        require(field(header, 0) == MAGIC, Fault::Magic)?;
        let (major, minor) = (byte(4), byte(5));
        require((major, minor) == VERSION, Fault::Version { major, minor })?;
        require(number(CHECKED) == crc32c(&header[..CHECKED]), Fault::HeaderChecksum)?;
        require(byte(6) == KIND_ADAPTER, Fault::Kind(byte(6)))?;
        require(byte(7) == 0, Fault::Flags(byte(7)))?;
        require(number(88) == 0, Fault::Reserved)?;
        require(field(header, 8) == self.run_id, Fault::RunId)?;
        require(field(header, 24) == self.manifest, Fault::Manifest)?;
        let (have, need) = (long(40), self.round);
        require(have == need, Fault::Round { have, need })?;
        let (have, need) = (number(48), self.sender);
        require(have == need, Fault::Sender { have, need })?;
        let (have, need) = (number(52), self.codec);
        require(have == need, Fault::Codec { have, need })?;
        let (have, need) = (number(56), self.block);
        require(have == need, Fault::Block { have, need })?;
        let (have, need) = (long(64), payload_len);
        require(have == need, Fault::PayloadLength { have, need })?;
        Ok(Stamp { incarnation: long(72), sequence: long(80) })
    }
}

/// The message at the start of `slot`, which may be longer: as many bytes as its header says, which is not checked.
pub(crate) fn trim(slot: &[u8]) -> &[u8] {
    let len = slot.first_chunk().map_or(0, |header| u64::from_le_bytes(field(header, 64)));
    let end = usize::try_from(len).ok().and_then(|len| len.checked_add(HEADER_LEN));
    end.and_then(|end| slot.get(..end)).unwrap_or(slot)
}

/// Bytes of a frame that holds `elements` numbers.
pub(crate) fn frame_len(codec: &Codec, elements: usize) -> Result<usize> {
    let payload = codec.payload_len(elements)?;
    payload.checked_add(HEADER_LEN).ok_or(Error::Length { field: "x", have: elements, need: usize::MAX })
}

/// The `N` bytes at offset `at`, a constant of the layout.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "no offset comes from a message"
)]
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| header[at + i])
}
