//! Frames: whatever opens is what a sender seals, decodes to finite numbers, and mixes.

use arbitrary::{Result, Unstructured};
use declora_core::frame::{HEADER_LEN, Message, Stamp};
use declora_core::{
    Batch, CheckedFrames, Codec, Error, Frames, MixingMatrix, check_frames, crc32c, decode_frames,
};

use super::{case, spec};
use crate::naive::bits;

const UNTOUCHED: f32 = -7.0;

pub fn frame(u: &mut Unstructured<'_>) -> Result<()> {
    let n = case::length(u, 2000)?;
    let codec = spec::codec(u, n)?;
    let message =
        Message { run_id: [7; 16], manifest: [9; 16], round: 5, sender: 3, codec: &codec, elements: n };
    let bytes = hostile(u, &message)?;

    let mut y = vec![UNTOUCHED; n];
    let decoded = codec.decode_into(bytes.get(HEADER_LEN..).unwrap_or(&[]), &mut y);
    match message.open(&bytes) {
        Ok(delivery) => {
            decoded.unwrap();
            assert!(y.iter().all(|y| y.is_finite()));
            let mut sealed = bytes.clone();
            message.seal(&mut sealed, delivery).unwrap();
            assert_eq!(sealed, bytes);
        }
        Err(error) => assert!(matches!(error, Error::Frame { row: None, .. }), "{error}"),
    }
    slots(u, &message, &bytes)
}

/// Any bytes; or a frame that was sealed, damaged, and perhaps given checksums (and a length) that fit again.
fn hostile(u: &mut Unstructured<'_>, message: &Message<'_>) -> Result<Vec<u8>> {
    let longest = message.frame_len().unwrap() + 8;
    if u.ratio(1, 8)? {
        let len = u.int_in_range(0..=longest)?;
        return case::bytes(u, len);
    }
    let payload = case::encoded(message.codec, &case::floats(u, message.elements)?);
    let mut frame = [vec![0; HEADER_LEN], payload].concat();
    let delivery = Stamp { incarnation: u.arbitrary()?, sequence: u.arbitrary()? };
    message.seal(&mut frame, delivery).unwrap();
    case::damage(u, &mut frame, longest)?;
    let (fix_payload, fix_length, fix_header) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    if let Some((header, payload)) = frame.split_at_mut_checked(HEADER_LEN) {
        if fix_payload {
            header[60..64].copy_from_slice(&crc32c(payload).to_le_bytes());
        }
        if fix_length {
            header[64..72].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        }
        if fix_header {
            let checksum = crc32c(&header[..92]).to_le_bytes();
            header[92..].copy_from_slice(&checksum);
        }
    }
    Ok(frame)
}

/// The frame as one row of two, the other row good: rows are as long as the manifest says, whatever headers say.
fn slots(u: &mut Unstructured<'_>, message: &Message<'_>, frame: &[u8]) -> Result<()> {
    let Message { run_id, manifest, round, sender, codec, elements: columns } = *message;
    let slot = message.frame_len().unwrap();
    let x = case::floats(u, 2 * columns)?;
    let mut good = [vec![0; HEADER_LEN], case::encoded(codec, &x[..columns])].concat();
    message.seal(&mut good, Stamp::default()).unwrap();
    let mut rows = vec![0; 2 * slot];
    for (row, bytes) in rows.chunks_exact_mut(slot).zip([&good[..], frame]) {
        let len = bytes.len().min(slot);
        row[..len].copy_from_slice(&bytes[..len]);
    }

    let batch = Batch { codec, columns, run_id, manifest, rounds: &[round; 2], senders: &[sender; 2] };
    let frames = Frames::new(codec, &rows, 2, columns).unwrap();
    assert!(frames.lens().all(|len| len <= slot));
    let checked = check_frames(&batch, &rows).unwrap();
    assert_eq!(checked.faults()[0], None);
    let mut z = vec![UNTOUCHED; 2 * columns];
    decode_frames(&checked, &mut z).unwrap();
    assert!(z.iter().all(|z| z.is_finite()));
    if checked.faults()[1].is_some() {
        assert!(z[columns..].iter().all(|&z| z == 0.0));
    }
    mixes(codec, &checked, &z, &x);
    Ok(())
}

/// Mixing straight from the payloads does what decoding and mixing do, or nothing where one of them was refused.
fn mixes(codec: &Codec, frames: &CheckedFrames<'_>, z: &[f32], x: &[f32]) {
    let half = MixingMatrix::new(&[0, 2, 4], &[0, 1, 0, 1], &[0.5; 4]).unwrap();
    let (mut fused, mut apart) = (x.to_vec(), x.to_vec());
    assert_eq!(half.mix_frames(frames, &mut fused, 0.9), frames.all_accepted(), "{codec}");
    if frames.all_accepted().is_ok() {
        half.mix_into(z, &mut apart, 0.9).unwrap();
    }
    // Bits of a NaN may differ: x is anything.
    for (fused, apart) in fused.iter().zip(&apart) {
        assert!(bits(&[*fused]) == bits(&[*apart]) || fused.is_nan() && apart.is_nan(), "{codec}");
    }
}
