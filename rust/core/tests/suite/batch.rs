//! Many frames at once: the same as one by one, and the first bad row is named.

use declora_core::frame::{Delivery, HEADER_LEN, Message};
use declora_core::{Batch, Codec, Error, Fault, Frames, Stream, check_frames, decode_frames, encode_frames};

use crate::naive::{codec, codecs, values};

const ROWS: usize = 5;
const COLUMNS: usize = 300;
const SENDERS: [u32; ROWS] = [4, 0, 9, u32::MAX, 2];

fn batch(codec: &Codec) -> Batch<'_> {
    Batch { codec, columns: COLUMNS, run_id: [1; 16], manifest: [2; 16], round: 6, senders: &SENDERS }
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
        check_frames(&batch(codec), &frames).unwrap();
        let mut decoded = vec![0.0; x.len()];
        let view = Frames::new(codec, &frames, ROWS, COLUMNS).unwrap();
        decode_frames(&view, &mut decoded).unwrap();
        for (row, sender) in SENDERS.into_iter().enumerate() {
            let Batch { run_id, manifest, round, columns, .. } = batch(codec);
            let message = Message { run_id, manifest, round, sender, codec, elements: columns };
            let mut frame = vec![0; len];
            let x = &x[row * COLUMNS..][..COLUMNS];
            let stream = Stream::quantizer(77, 6, sender);
            let end = HEADER_LEN + codec.encode_into(x, &mut frame[HEADER_LEN..], &stream).unwrap();
            message.seal(&mut frame[..end], Delivery::default()).unwrap();
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
fn the_first_row_at_fault_is_named() {
    for codec in &codecs(COLUMNS) {
        let (mut frames, len) = encoded(codec);
        frames[3 * len + 48] ^= 1;
        frames[4 * len] ^= 1;
        let error = check_frames(&batch(codec), &frames).unwrap_err();
        assert_eq!(error, Error::Frame { row: Some(3), fault: Fault::HeaderChecksum });
        assert!(error.to_string().starts_with("frame 3: header checksum"));
    }
}

#[test]
fn a_frame_of_one_client_is_not_that_of_another() {
    let codec = &codec("q4");
    let (mut frames, len) = encoded(codec);
    frames.copy_within(0..len, len);
    let error = check_frames(&batch(codec), &frames).unwrap_err();
    assert_eq!(error, Error::Frame { row: Some(1), fault: Fault::Sender { have: 4, need: 0 } });
}

#[test]
fn a_row_that_cannot_be_decoded_leaves_the_output_as_it_was() {
    let codec = &codec("q4");
    let (mut frames, len) = encoded(codec);
    frames[4 * len + HEADER_LEN..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let view = Frames::new(codec, &frames, ROWS, COLUMNS).unwrap();
    let mut out = vec![-7.0; ROWS * COLUMNS];
    let error = decode_frames(&view, &mut out).unwrap_err();
    assert_eq!(error, Error::Frame { row: Some(4), fault: Fault::Scale { block: 0 } });
    assert!(out.iter().all(|&y| y == -7.0));
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
    refused(decode_frames(&Frames::new(codec, &frames, ROWS, COLUMNS).unwrap(), &mut [0.0; 7]), "out");
    let error = check_frames(&batch(codec), &frames[..frames.len() - ROWS]).unwrap_err();
    assert_eq!(error, Fault::Size { have: len - 1, need: len }.into());
    let error = encode_frames(&Batch { round: 1 << 32, ..batch(codec) }, &x, &mut frames, 0).unwrap_err();
    assert!(error.to_string().contains("round=4294967296"));
}

#[test]
fn no_rows_and_no_columns_are_fine() {
    let codec = &codec("q4");
    let none = Batch { senders: &[], ..batch(codec) };
    encode_frames(&none, &[], &mut [], 0).unwrap();
    check_frames(&none, &[]).unwrap();
    let empty = Batch { columns: 0, ..batch(codec) };
    let mut frames = [0; ROWS * HEADER_LEN];
    encode_frames(&empty, &[], &mut frames, 0).unwrap();
    check_frames(&empty, &frames).unwrap();
    decode_frames(&Frames::new(codec, &frames, ROWS, 0).unwrap(), &mut []).unwrap();
}
