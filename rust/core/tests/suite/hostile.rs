//! Hostile input to every public function: the fuzz targets' bodies on random bytes, and sizes that no memory has.

use declora_core::frame::{HEADER_LEN, Message};
use declora_core::{
    Batch, Codec, Error, Frames, MAX_ELEMENTS, Norm, check_frames, consensus_distance, crc32c, decode_frames,
    dropout_mask_into, encode_frames,
};
use proptest::prelude::*;

use crate::cases::cases;
use crate::fuzz::{self, PROPERTIES};
use crate::naive::{CODECS, codec};

/// Numbers of items near the ends of all that an address can be.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0_usize..5,
        any::<usize>(),
        (0_usize..64, -2_isize..3)
            .prop_map(|(power, off)| (1_usize << power as u32).wrapping_add_signed(off)),
    ]
}

/// The argument that an error names.
fn named(error: &Error) -> &'static str {
    match error {
        Error::Argument { field, .. } | Error::CodecSetting { field, .. } | Error::Length { field, .. } => {
            field
        }
        _ => "",
    }
}

fn batch<'a>(codec: &'a Codec, columns: usize, rounds: &'a [u64], senders: &'a [u32]) -> Batch<'a> {
    Batch { codec, columns, run_id: [0; 16], manifest: [0; 16], rounds, senders }
}

proptest! {
    // Most random cases end early; these many take a second or two.
    #![proptest_config(ProptestConfig { max_shrink_iters: 10_000, ..cases(4000) })]

    #[test]
    fn the_fuzz_targets_hold_on_random_bytes(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        for (name, _) in PROPERTIES {
            fuzz::run(name, &data);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_text_names_a_codec_or_is_refused(text in "\\PC{0,40}", at in 0_usize..18, tail in "[:+=,a-z0-9.e-]{0,30}") {
        for text in [text, format!("{}{tail}", Codec::NAMES[at]), format!("{}:{tail}", Codec::NAMES[at])] {
            match text.parse::<Codec>() {
                Ok(codec) => prop_assert_eq!(codec.to_string().parse::<Codec>(), Ok(codec)),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            match text.parse::<Norm>() {
                Ok(norm) => prop_assert_eq!(norm.name(), text),
                Err(error) => prop_assert_eq!(named(&error), "norm"),
            }
        }
    }

    #[test]
    fn sizes_are_refused_or_fit_and_more_numbers_need_no_fewer_bytes(at in 0..CODECS.len(), n in size()) {
        let codec = codec(CODECS[at]);
        let len = codec.payload_len(n);
        let message =
            Message { run_id: [0; 16], manifest: [0; 16], round: 0, sender: 0, codec: &codec, elements: n };
        prop_assert_eq!(message.frame_len(), len.clone().map(|len| len + HEADER_LEN));
        prop_assert!(codec.error_bound(n) >= 0.0);
        if codec.name() == "powersgd" {
            prop_assert_eq!(len.is_ok(), n == 0);
        } else if n as u64 <= MAX_ELEMENTS {
            let len = len.unwrap();
            prop_assert!(len as u64 <= 5 * MAX_ELEMENTS);
            // The low bits of "topk" grow by one where the high ones halve: the whole may be a byte shorter.
            let slack = usize::from(codec.name() == "topk");
            prop_assert!(n == 0 || codec.payload_len(n - 1).unwrap() <= len + slack);
        } else {
            prop_assert_eq!(named(&len.unwrap_err()), "n");
        }
    }

    #[test]
    fn shapes_add_up_to_a_message_or_are_refused(shapes in prop::collection::vec((size(), size()), 0..5)) {
        let total = shapes.iter().try_fold(0_u128, |total, &(rows, columns)| {
            total.checked_add(rows as u128 * columns as u128)
        });
        let total = total.filter(|&total| total <= u128::from(MAX_ELEMENTS));
        for text in ["powersgd", "powersgd:rank=1024,values=q2+rans"] {
            match codec(text).with_shapes(&shapes) {
                Ok(codec) => {
                    prop_assert_eq!(codec.elements().map(|n| n as u128), total);
                    prop_assert!(codec.payload_len(codec.elements().unwrap()).is_ok());
                    prop_assert!((0.0..=1.0).contains(&codec.error_bound(0)));
                }
                Err(error) => {
                    prop_assert!(total.is_none(), "{}", error);
                    prop_assert_eq!(named(&error), "n");
                }
            }
        }
        prop_assert_eq!(codec("q4").with_shapes(&shapes), Ok(codec("q4")));
    }

    #[test]
    fn matrices_of_any_claimed_size_are_refused_where_the_bytes_are_not_there(
        rows in size(), columns in size(), have in 0_usize..400, senders in 0_usize..4,
    ) {
        let (codec, bytes, mut numbers) = (codec("q4"), vec![0; have], vec![0.0; have]);
        let fits = |frames: Result<Frames<'_>, Error>| {
            let len = codec.payload_len(columns).map(|len| len + HEADER_LEN);
            frames.is_ok() == len.is_ok_and(|len| rows.checked_mul(len) == Some(have))
        };
        prop_assert!(fits(Frames::new(&codec, &bytes, rows, columns)));
        if let Ok(frames) = Frames::new(&codec, &bytes, rows, columns) {
            prop_assert_eq!((frames.rows(), frames.columns()), (rows, columns));
            prop_assert_eq!(frames.lens().count(), if have == 0 { 0 } else { rows });
        }
        let (rounds, senders) = (vec![0; senders], vec![7; senders]);
        let batch = batch(&codec, columns, &rounds, &senders);
        if let Ok(checked) = check_frames(&batch, &bytes) {
            prop_assert_eq!(checked.rows() * have.checked_div(senders.len()).unwrap_or(0), have);
            prop_assert!(checked.faults().iter().all(Option::is_some));
            let fits = senders.len().checked_mul(columns) == Some(have);
            prop_assert_eq!(decode_frames(&checked, &mut numbers).is_ok(), fits);
        }
        let mut out = bytes.clone();
        let encoded = encode_frames(&batch, &numbers, &mut out, 0);
        let whole = senders.len().checked_mul(columns) == Some(have);
        prop_assert!(encoded.is_err() || whole && senders.len() * (HEADER_LEN + codec.payload_len(columns).unwrap()) == have);
    }

    #[test]
    fn the_consensus_distance_of_any_floats_in_any_rows_is_a_number_or_an_error(
        x in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..60), rows in size(),
    ) {
        match consensus_distance(&x, rows) {
            Ok(distance) => {
                prop_assert!(x.is_empty() || x.len() % rows == 0);
                prop_assert!(distance >= 0.0 || distance.is_nan() && x.iter().any(|x| !x.is_finite()));
            }
            Err(error) => {
                prop_assert_eq!(named(&error), "x");
                prop_assert!(x.len().checked_rem(rows) != Some(0));
            }
        }
    }

    #[test]
    fn masks_of_any_arguments_are_zeros_and_the_one_other_value_or_refused(
        rate in prop_oneof![0.0..1.0, any::<f64>()], rows in 0_usize..4, samples in prop::collection::vec(0_u32..1 << 25, 0..4),
        have in 0_usize..500, draws: (u64, u32),
    ) {
        let mut out = vec![-7.0; have];
        let result = dropout_mask_into(&mut out, rate, draws, &vec![u32::MAX; rows], &samples);
        let keep = (1.0 / (1.0 - rate)) as f32;
        match result {
            Ok(()) => prop_assert!(out.iter().all(|&m| m == 0.0 || m == keep) && (0.0..1.0).contains(&rate)),
            Err(_) => prop_assert!(out.iter().all(|&m| m == -7.0)),
        }
    }

    /// Bit by bit: the remainder of the reflected polynomial 0x82F63B78.
    #[test]
    fn crc32c_is_its_definition(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let sum = data.iter().fold(u32::MAX, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ ((sum & 1) * 0x82F6_3B78))
        });
        prop_assert_eq!(crc32c(&data), !sum);
    }
}

#[test]
fn shapes_without_numbers_may_have_any_sides() {
    for shape in [(usize::MAX, 0), (0, usize::MAX)] {
        let codec = codec("powersgd").with_shapes(&[shape, (30, 20)]).unwrap();
        assert_eq!((codec.elements(), codec.payload_len(600)), (Some(600), Ok(4 * 2 * 50)));
    }
    assert_eq!(named(&codec("powersgd").with_shapes(&[(usize::MAX, 2)]).unwrap_err()), "n");
}
