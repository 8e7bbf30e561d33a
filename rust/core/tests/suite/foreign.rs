//! Frames whose payload others write: the same header and checks, and any bytes inside.

use declora_core::frame::HEADER_LEN;
use declora_core::{Error, Fault, Foreign, crc32c, open_frames, seal_frames, sealed_lens};
use proptest::prelude::*;

use crate::cases::cases;

const ROUNDS: [u64; 3] = [6, 0, u64::MAX];
const SENDERS: [u32; 3] = [4, u32::MAX, 0];
const PAYLOAD: usize = 20;
const SLOT: usize = HEADER_LEN + PAYLOAD;
const LENS: [u64; 3] = [20, 0, 7];

fn batch() -> Foreign<'static> {
    Foreign { payload_len: PAYLOAD, run_id: [1; 16], manifest: [2; 16], rounds: &ROUNDS, senders: &SENDERS }
}

fn sealed() -> Vec<u8> {
    let mut frames: Vec<u8> = (0..3 * SLOT).map(|i| i as u8 | 1).collect();
    seal_frames(&batch(), &mut frames, &LENS).unwrap();
    frames
}

#[test]
fn sealed_frames_open_with_their_lengths_and_end_with_zeros() {
    let frames = sealed();
    assert_eq!(open_frames(&batch(), &frames), Ok(LENS.map(|len| Ok(len as usize)).to_vec()));
    assert_eq!(sealed_lens(&frames, 3), Ok(LENS.map(|len| HEADER_LEN + len as usize).to_vec()));
    for (frame, len) in frames.chunks_exact(SLOT).zip(LENS) {
        let (message, rest) = frame.split_at(HEADER_LEN + len as usize);
        assert!(message[HEADER_LEN..].iter().all(|byte| byte % 2 == 1));
        assert!(rest.iter().all(|&byte| byte == 0));
        assert_eq!(frame[52..60], [127, 0, 0, 0, 0, 0, 0, 0]); // no codec of the core has this id
        assert_eq!(frame[64..72], len.to_le_bytes());
    }
}

#[test]
fn every_flipped_bit_of_a_message_is_noticed_and_harms_no_other() {
    let frames = sealed();
    for bit in 0..(HEADER_LEN + 7) * 8 {
        let mut damaged = frames.clone();
        damaged[2 * SLOT + bit / 8] ^= 1 << (bit % 8);
        let opened = open_frames(&batch(), &damaged).unwrap();
        assert_eq!(opened[..2], [Ok(20), Ok(0)]);
        assert!(opened[2].is_err(), "bit {bit}");
    }
}

#[test]
fn frames_of_others_are_refused_by_name() {
    let frames = sealed();
    let opened = |batch: Foreign<'_>| open_frames(&batch, &frames).unwrap()[0];
    assert_eq!(opened(Foreign { run_id: [9; 16], ..batch() }), Err(Fault::RunId));
    assert_eq!(opened(Foreign { manifest: [9; 16], ..batch() }), Err(Fault::Manifest));
    assert_eq!(opened(Foreign { rounds: &[7, 0, 0], ..batch() }), Err(Fault::Round { have: 6, need: 7 }));
    assert_eq!(opened(Foreign { senders: &[5, 0, 0], ..batch() }), Err(Fault::Sender { have: 4, need: 5 }));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let plain = vec![3; 3 * SLOT];
    let mut frames = plain.clone();
    let field = |error: Error| match error {
        Error::Length { field, .. } | Error::Argument { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(seal_frames(&batch(), &mut frames, &[20, 21, 0]).unwrap_err()), "lens");
    assert_eq!(field(seal_frames(&batch(), &mut frames, &[20, u64::MAX, 0]).unwrap_err()), "lens");
    assert_eq!(field(seal_frames(&batch(), &mut frames, &LENS[1..]).unwrap_err()), "lens");
    assert_eq!(field(seal_frames(&batch(), &mut frames[1..], &LENS).unwrap_err()), "frames");
    let short = Foreign { rounds: &ROUNDS[1..], ..batch() };
    assert_eq!(field(seal_frames(&short, &mut frames, &LENS).unwrap_err()), "rounds");
    assert_eq!(field(open_frames(&short, &frames).unwrap_err()), "rounds");
    let huge = Foreign { payload_len: usize::MAX, ..batch() };
    assert_eq!(field(open_frames(&huge, &frames).unwrap_err()), "frames");
    assert_eq!(frames, plain);
    let none = Foreign { rounds: &[], senders: &[], ..batch() };
    assert_eq!(open_frames(&none, &[]), Ok(vec![]));
    assert_eq!(sealed_lens(&[], 0), Ok(vec![]));
    assert_eq!(sealed_lens(&frames, 3), Ok(vec![SLOT; 3])); // no headers: all of each row
    assert_eq!(field(sealed_lens(&frames, 7).unwrap_err()), "frames");
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn whatever_opens_is_what_a_sender_seals(
        at in 0_usize..SLOT,
        bytes in prop::collection::vec(any::<u8>(), 1..12),
        fix_payload: bool,
        len in 0_usize..PAYLOAD + 3,
    ) {
        let mut frames = sealed();
        let end = (at + bytes.len()).min(SLOT);
        frames[at..end].copy_from_slice(&bytes[..end - at]);
        if fix_payload {
            let fitting = len.min(PAYLOAD);
            let checksum = crc32c(&frames[HEADER_LEN..][..fitting]);
            frames[60..64].copy_from_slice(&checksum.to_le_bytes());
            frames[64..72].copy_from_slice(&(len as u64).to_le_bytes());
        }
        let checksum = crc32c(&frames[..92]);
        frames[92..96].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(len) = open_frames(&batch(), &frames).unwrap()[0] {
            let mut again = frames.clone();
            seal_frames(&batch(), &mut again, &[len as u64, 0, 7]).unwrap();
            let message = HEADER_LEN + len;
            prop_assert_eq!(&again[..72], &frames[..72]); // then which message of its sender it is: nobody knows
            prop_assert_eq!(&again[HEADER_LEN..message], &frames[HEADER_LEN..message]);
        }
    }
}
