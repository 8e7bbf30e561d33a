//! Many frames at once: the same as one by one, and the first bad row is named.

use declora_core::frame::{HEADER_LEN, Message, Stamp};
use declora_core::{
    Batch, CheckedFrames, Codec, Error, Fault, Frames, Stream, check_frames, decode_frames, encode_frames,
};

use crate::naive::{bits, codec, codecs, values};

const ROWS: usize = 5;
const COLUMNS: usize = 300;
const SENDERS: [u32; ROWS] = [4, 0, 9, u32::MAX, 2];
const ROUNDS: [u64; ROWS] = [6, 6, 0, u32::MAX as u64, 5];

fn batch(codec: &Codec) -> Batch<'_> {
    Batch { codec, columns: COLUMNS, run_id: [1; 16], manifest: [2; 16], rounds: &ROUNDS, senders: &SENDERS }
}

fn encoded(codec: &Codec) -> (Vec<u8>, usize) {
    let len = HEADER_LEN + codec.payload_len(COLUMNS).unwrap();
    let mut frames = vec![0xAA; ROWS * len];
    encode_frames(&batch(codec), &values(ROWS * COLUMNS, 3), &mut frames, 77).unwrap();
    (frames, len)
}

#[test]
fn rows_are_the_frames_of_their_senders() {
    let x = values(ROWS * COLUMNS, 3);
    for codec in &codecs(COLUMNS) {
        let (frames, len) = encoded(codec);
        let checked = check_frames(&batch(codec), &frames).unwrap();
        checked.all_accepted().unwrap();
        let mut decoded = vec![0.0; x.len()];
        let view = Frames::new(codec, &frames, ROWS, COLUMNS).unwrap();
        decode_frames(&checked, &mut decoded).unwrap();
        for (row, (sender, round)) in SENDERS.into_iter().zip(ROUNDS).enumerate() {
            let Batch { run_id, manifest, columns, .. } = batch(codec);
            let message = Message { run_id, manifest, round, sender, codec, elements: columns };
            let mut frame = vec![0; len];
            let x = &x[row * COLUMNS..][..COLUMNS];
            let stream = Stream::quantizer(77, round as u32, sender);
            let end = HEADER_LEN + codec.encode_into(x, &mut frame[HEADER_LEN..], &stream).unwrap();
            message.seal(&mut frame[..end], Stamp::default()).unwrap();
            assert_eq!(frame, frames[row * len..][..len]);
            assert_eq!(view.lens().nth(row), Some(end));
            let mut y = vec![0.0; COLUMNS];
            codec.decode_into(&frame[HEADER_LEN..end], &mut y).unwrap();
            assert_eq!(y, decoded[row * COLUMNS..][..COLUMNS]);
        }
    }
}

#[test]
fn the_first_row_that_cannot_be_encoded_is_named_and_not_sent() {
    for codec in &codecs(COLUMNS) {
        let len = HEADER_LEN + codec.payload_len(COLUMNS).unwrap();
        let mut x = values(ROWS * COLUMNS, 3);
        x[2 * COLUMNS + 41] = f32::NAN;
        x[4 * COLUMNS] = f32::INFINITY;
        let mut frames = vec![0xAA; ROWS * len];
        let error = encode_frames(&batch(codec), &x, &mut frames, 77).unwrap_err();
        assert!(matches!(error, Error::Value { row: Some(2), index: 41, .. }), "{error}");
        assert!(error.to_string().starts_with("x[2, 41]=NaN"), "{error}");
        assert!(frames[2 * len..3 * len].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn every_frame_at_fault_is_named_and_the_others_are_decoded() {
    for codec in &codecs(COLUMNS) {
        let (mut frames, len) = encoded(codec);
        let mut whole = vec![0.0; ROWS * COLUMNS];
        decode_frames(&check_frames(&batch(codec), &frames).unwrap(), &mut whole).unwrap();
        frames[len + 48] ^= 1;
        frames[3 * len] ^= 1;
        let checked = check_frames(&batch(codec), &frames).unwrap();
        let faults = [None, Some(Fault::HeaderChecksum), None, Some(Fault::Magic), None];
        assert_eq!(checked.faults(), faults);
        let error = checked.all_accepted().unwrap_err();
        assert!(error.to_string().starts_with("frame 1: header checksum"));

        let mut out = vec![-7.0; ROWS * COLUMNS];
        decode_frames(&checked, &mut out).unwrap();
        for (row, fault) in faults.iter().enumerate() {
            let columns = row * COLUMNS..(row + 1) * COLUMNS;
            whole[columns.clone()].iter_mut().filter(|_| fault.is_some()).for_each(|x| *x = 0.0);
            assert_eq!(bits(&out[columns.clone()]), bits(&whole[columns]), "{codec}: row {row}");
        }
    }
}

#[test]
fn a_frame_is_that_of_its_own_client_and_its_own_round() {
    let codec = &codec("q4");
    let (mut frames, len) = encoded(codec);
    frames.copy_within(0..len, len);
    let late = Batch { rounds: &[6, 6, 0, 7, 5], ..batch(codec) };
    let checked = check_frames(&late, &frames).unwrap();
    let sender = Some(Fault::Sender { have: 4, need: 0 });
    let round = Some(Fault::Round { have: u64::from(u32::MAX), need: 7 });
    assert_eq!(checked.faults(), [None, sender, None, round, None]);
}

/// What a sealed frame cannot hold is not decoded either, whoever says that its bytes were checked.
#[test]
fn frames_borrowed_again_are_those_that_were_checked() {
    let codec = &codec("q4");
    let (mut frames, len) = encoded(codec);
    frames[2 * len] ^= 1;
    let checked = check_frames(&batch(codec), &frames).unwrap();
    let again = CheckedFrames::again(codec, COLUMNS, &frames, checked.faults()).unwrap();
    let mut decoded = [vec![0.0; ROWS * COLUMNS], vec![1.0; ROWS * COLUMNS]];
    decode_frames(&checked, &mut decoded[0]).unwrap();
    decode_frames(&again, &mut decoded[1]).unwrap();
    assert_eq!(bits(&decoded[0]), bits(&decoded[1]));
    assert!(CheckedFrames::again(codec, COLUMNS, &frames[1..], checked.faults()).is_err());
    assert!(CheckedFrames::again(codec, COLUMNS + 8, &frames, checked.faults()).is_err());
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let codec = &codec("q4");
    let (mut frames, len) = encoded(codec);
    let x = values(ROWS * COLUMNS, 3);
    let refused = |result: Result<(), Error>, named| match result {
        Err(Error::Length { field, .. }) => assert_eq!(field, named),
        other => panic!("{other:?}"),
    };
    refused(encode_frames(&batch(codec), &x[1..], &mut frames, 0), "x");
    refused(encode_frames(&batch(codec), &x, &mut frames[1..], 0), "out");
    refused(Frames::new(codec, &frames[1..], ROWS, COLUMNS).map(drop), "frames");
    refused(Frames::new(codec, &frames, usize::MAX, COLUMNS).map(drop), "frames");
    refused(decode_frames(&check_frames(&batch(codec), &frames).unwrap(), &mut [0.0; 7]), "out");
    refused(check_frames(&batch(codec), &frames[1..]).map(drop), "frames");
    refused(check_frames(&Batch { rounds: &ROUNDS[1..], ..batch(codec) }, &frames).map(drop), "rounds");
    for (bytes, have) in [(&frames[..frames.len() - ROWS], len - 1), (&[], 0)] {
        let checked = check_frames(&batch(codec), bytes).unwrap();
        assert_eq!(checked.faults(), [Some(Fault::Size { have, need: len }); ROWS]);
        let mut out = vec![1.0; ROWS * COLUMNS];
        decode_frames(&checked, &mut out).unwrap();
        assert!(out.iter().all(|&y| y == 0.0));
    }
    let rounds = [0, 0, 0, 1 << 32, 0];
    let error = encode_frames(&Batch { rounds: &rounds, ..batch(codec) }, &x, &mut frames, 0).unwrap_err();
    assert!(error.to_string().contains("round=4294967296"));
}

#[test]
fn no_rows_and_no_columns_are_fine() {
    let codec = &codec("q4");
    let none = Batch { rounds: &[], senders: &[], ..batch(codec) };
    encode_frames(&none, &[], &mut [], 0).unwrap();
    decode_frames(&check_frames(&none, &[]).unwrap(), &mut []).unwrap();
    let empty = Batch { columns: 0, ..batch(codec) };
    let mut frames = [0; ROWS * HEADER_LEN];
    encode_frames(&empty, &[], &mut frames, 0).unwrap();
    let checked = check_frames(&empty, &frames).unwrap();
    checked.all_accepted().unwrap();
    decode_frames(&checked, &mut []).unwrap();
}
