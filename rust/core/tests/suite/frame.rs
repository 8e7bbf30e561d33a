//! The header: every wrong field has its own fault, every damage is noticed.

use std::sync::LazyLock;

use declora_core::frame::{HEADER_LEN, Message, Stamp};
use declora_core::{Codec, Error, Fault, Stream, crc32c};
use proptest::prelude::*;

use crate::cases::cases;
use crate::naive::{codec, values};

const DELIVERY: Stamp = Stamp { incarnation: 0x1122_3344_5566_7788, sequence: 0x99AA_BBCC_DDEE_FF00 };

fn message() -> Message<'static> {
    static CODEC: LazyLock<Codec> = LazyLock::new(|| codec("q4:block=64"));
    Message {
        run_id: *b"0123456789abcdef",
        manifest: [0xC3; 16],
        round: 0x0102_0304_0506_0708,
        sender: 0x0A0B_0C0D,
        codec: &CODEC,
        elements: 100,
    }
}

fn sealed(message: &Message<'_>) -> Vec<u8> {
    let mut frame = vec![0; message.frame_len().unwrap()];
    let x = values(message.elements, 1);
    message.codec.encode_into(&x, &mut frame[HEADER_LEN..], &Stream::quantizer(1, 2, 3)).unwrap();
    message.seal(&mut frame, DELIVERY).unwrap();
    frame
}

/// `frame` with other bytes at `at` and a header checksum that fits them.
fn forged(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = crc32c(&frame[..92]);
    frame[92..96].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Frame { row: None, fault } => *fault,
        other => panic!("{other}"),
    }
}

#[test]
fn a_sealed_frame_opens() {
    assert_eq!(message().open(&sealed(&message())).unwrap(), DELIVERY);
}

#[test]
fn every_field_is_where_the_format_says() {
    let frame = sealed(&message());
    assert_eq!(frame[..8], [b'D', b'L', b'R', b'A', 1, 0, 1, 0]);
    assert_eq!(frame[8..24], *b"0123456789abcdef");
    assert_eq!(frame[24..40], [0xC3; 16]);
    assert_eq!(frame[40..48], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(frame[48..52], [0x0D, 0x0C, 0x0B, 0x0A]);
    assert_eq!(frame[52..60], [4, 4, 1, 0, 64, 0, 0, 0]);
    assert_eq!(frame[60..64], crc32c(&frame[96..]).to_le_bytes());
    assert_eq!(frame[64..72], 58_u64.to_le_bytes()); // 2 scales and 100 numbers of 4 bits
    assert_eq!(frame[72..80], DELIVERY.incarnation.to_le_bytes());
    assert_eq!(frame[80..88], DELIVERY.sequence.to_le_bytes());
    assert_eq!(frame[88..92], [0; 4]);
    assert_eq!(frame[92..96], crc32c(&frame[..92]).to_le_bytes());
    assert_eq!(frame.len(), 96 + 58);
}

#[test]
fn a_frame_cut_at_any_byte_or_too_long_is_rejected() {
    let mut frame = sealed(&message());
    let need = frame.len();
    for have in 0..need {
        assert_eq!(fault(&message().open(&frame[..have]).unwrap_err()), Fault::Size { have, need });
    }
    frame.push(0);
    assert_eq!(fault(&message().open(&frame).unwrap_err()), Fault::Size { have: need + 1, need });
}

#[test]
fn every_flipped_bit_is_noticed() {
    let frame = sealed(&message());
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let fault = fault(&message().open(&damaged).unwrap_err());
        match bit / 8 {
            0..4 => assert_eq!(fault, Fault::Magic),
            4..6 => assert!(matches!(fault, Fault::Version { .. })),
            6..96 => assert_eq!(fault, Fault::HeaderChecksum),
            _ => assert_eq!(fault, Fault::PayloadChecksum),
        }
    }
}

#[test]
fn every_wrong_field_has_its_own_fault() {
    let codec = message().codec.id();
    let cases: [(usize, &[u8], Fault); 16] = [
        (0, b"DLRB", Fault::Magic),
        (4, &[2], Fault::Version { major: 2, minor: 0 }),
        (5, &[1], Fault::Version { major: 1, minor: 1 }),
        (6, &[2], Fault::Kind(2)),
        (7, &[0x80], Fault::Flags(0x80)),
        (88, &[1], Fault::Reserved),
        (91, &[1], Fault::Reserved),
        (8, &[0], Fault::RunId),
        (39, &[0], Fault::Manifest),
        (40, &9_u64.to_le_bytes(), Fault::Round { have: 9, need: message().round }),
        (48, &7_u32.to_le_bytes(), Fault::Sender { have: 7, need: message().sender }),
        (53, &[5], Fault::Codec { have: 0x0001_0504, need: codec }),
        (55, &[1], Fault::Codec { have: 0x0101_0404, need: codec }),
        (56, &32_u32.to_le_bytes(), Fault::Block { have: 32, need: 64 }),
        (64, &u64::MAX.to_le_bytes(), Fault::PayloadLength { have: u64::MAX, need: 58 }),
        (60, &[0; 4], Fault::PayloadChecksum),
    ];
    for (at, bytes, expected) in cases {
        let error = message().open(&forged(sealed(&message()), at, bytes)).unwrap_err();
        assert_eq!(fault(&error), expected);
        assert!(error.to_string().starts_with("frame: "));
    }
}

#[test]
fn a_payload_that_cannot_be_decoded_is_rejected_though_its_checksum_fits() {
    let mut frame = sealed(&message());
    frame[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&f32::NAN.to_le_bytes());
    message().seal(&mut frame, DELIVERY).unwrap();
    assert_eq!(fault(&message().open(&frame).unwrap_err()), Fault::Scale { block: 1 });
}

#[test]
fn a_frame_of_another_length_cannot_be_sealed() {
    for have in [0, 95, 96, 153, 155] {
        let error = message().seal(&mut vec![0; have], DELIVERY).unwrap_err();
        assert_eq!(error, Error::Length { field: "frame", have, need: 154 });
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(message().open(&bytes).is_err());
    }

    #[test]
    fn any_header_with_a_right_checksum_opens_only_if_it_says_what_is_expected(
        at in 0_usize..92, byte: u8,
    ) {
        let frame = sealed(&message());
        let same = frame[at] == byte || (72..88).contains(&at);
        prop_assert_eq!(message().open(&forged(frame, at, &[byte])).is_ok(), same);
    }
}
