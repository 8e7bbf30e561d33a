//! What no encoder writes is refused before anything is written; what is not refused stays within its scale.

use declora_core::frame::{HEADER_LEN, Message, Stamp};
use declora_core::{
    Batch, Codec, Error, Fault, Level, MixingMatrix, check_frames, decode_frames, with_level,
};

use crate::naive::{codec, encoded, values};

const SENDERS: [u32; 2] = [4, 9];

/// Writes `code` as code `at` of `bits` each.
fn put(bytes: &mut [u8], at: usize, bits: usize, code: usize) {
    for bit in 0..bits {
        let place = at * bits + bit;
        bytes[place / 8] &= !(1 << (place % 8));
        bytes[place / 8] |= ((code >> bit & 1) as u8) << (place % 8);
    }
}

fn fault(codec: &Codec, payload: &[u8], n: usize) -> Option<Fault> {
    let mut z = vec![-7.0; n];
    match codec.decode_into(payload, &mut z) {
        Ok(()) => None,
        Err(Error::Frame { row: None, fault }) => {
            assert!(z.iter().all(|&z| z == -7.0), "something was written");
            Some(fault)
        }
        Err(other) => panic!("{other}"),
    }
}

/// Every quantizer: its name, bits and L.
fn quantizers() -> impl Iterator<Item = (String, usize, usize)> {
    let plain = (2..=8).map(|bits| (format!("q{bits}:block=96"), bits, (1 << (bits - 1)) - 1));
    let levels = (1..=127_usize)
        .map(|levels| (format!("qsgd:levels={levels},block=96"), (2 * levels).ilog2() as usize + 1, levels));
    plain.chain(levels)
}

#[test]
fn a_code_beyond_the_levels_is_refused_wherever_it_stands() {
    for (text, bits, levels) in quantizers() {
        let codec = codec(&text);
        for n in [1, 7, 33, 300] {
            let good = encoded(&codec, &values(n, 1));
            let scales = 4 * n.div_ceil(96);
            for at in (0..n).filter(|at| at % 37 < 9 || at + 9 > n) {
                let mut payload = good.clone();
                for code in [2 * levels + 1, (1 << bits) - 1] {
                    put(&mut payload[scales..], at, bits, code);
                    for &level in Level::available() {
                        let found = with_level(level, || fault(&codec, &payload, n));
                        assert_eq!(found, Some(Fault::Code { index: at }), "{text}, {n}, {}", level.name());
                    }
                }
                put(&mut payload[scales..], at, bits, 2 * levels);
                assert_eq!(fault(&codec, &payload, n), None, "{text}: L itself");
            }
        }
    }
}

#[test]
fn in_a_long_message_the_first_bad_code_is_named_whatever_thread_finds_it() {
    let n = 300_001;
    for (text, bits) in [("q3", 3), ("q4", 4), ("qsgd:levels=9", 5), ("q8", 8)] {
        let codec = codec(text);
        let good = encoded(&codec, &values(n, 1));
        let scales = 4 * n.div_ceil(codec.block() as usize);
        for at in [0, 65_535, 65_536, 200_000, n - 1] {
            let mut payload = good.clone();
            for at in (at..n).step_by(50_000) {
                put(&mut payload[scales..], at, bits, (1 << bits) - 1);
            }
            assert_eq!(fault(&codec, &payload, n), Some(Fault::Code { index: at }), "{text}");
        }
    }
}

#[test]
fn the_largest_codes_of_the_largest_scale_decode_to_it() {
    let scale = 2_f32.powi(127).next_down();
    for (text, bits, levels) in quantizers() {
        let (codec, n) = (codec(&text), 96);
        let mut payload = vec![0; codec.payload_len(n).unwrap()];
        payload[..4].copy_from_slice(&scale.to_le_bytes());
        (0..n).for_each(|i| put(&mut payload[4..], i, bits, if i % 2 == 0 { 2 * levels } else { 0 }));
        let mut z = vec![0.0; n];
        codec.decode_into(&payload, &mut z).unwrap();
        for (i, z) in z.iter().enumerate() {
            // s / L and its product with L are rounded: 2^-24 each.
            assert!((z.abs() / scale - 1.0).abs() <= f32::EPSILON, "{text}: {z:e}");
            assert_eq!(z.is_sign_positive(), i % 2 == 0);
        }
    }
}

#[test]
fn the_largest_scales_of_sign_are_sent_and_larger_ones_refused() {
    let (n, largest) = (1 << 20, 2_f32.powi(127).next_down());
    let codec = codec("sign:block=1048576");
    let mut payload = encoded(&codec, &vec![largest; n]);
    assert_eq!(payload[..4], largest.to_le_bytes(), "the mean of 2^20 equal numbers");
    assert_eq!(fault(&codec, &payload, n), None);
    for bad in [2_f32.powi(127), f32::MAX, f32::INFINITY, f32::NAN, -1.0] {
        payload[..4].copy_from_slice(&bad.to_le_bytes());
        assert_eq!(fault(&codec, &payload, n), Some(Fault::Scale { block: 0 }), "{bad}");
    }
}

#[test]
fn spare_bits_are_refused() {
    let set_last = |codec: &Codec, n: usize| {
        let mut payload = encoded(codec, &values(n, 1));
        *payload.last_mut().unwrap() |= 0x80;
        fault(codec, &payload, n)
    };
    for (text, bits, _) in quantizers() {
        // As many numbers as leave one bit or more.
        for n in (1..300).step_by(13).filter(|n| n * bits % 8 > 0) {
            assert_eq!(set_last(&codec(&text), n), Some(Fault::Padding), "{text}, {n}");
        }
    }
    for text in ["sign", "natural", "topk:fraction=0.3,values=q3", "randk:fraction=0.3,values=q5"] {
        assert_eq!(set_last(&codec(text), 251), Some(Fault::Padding), "{text}");
    }
    let low_rank = codec("powersgd:values=q3").with_shapes(&[(1, 11)]).unwrap();
    assert_eq!(set_last(&low_rank, 11), Some(Fault::Padding));
}

#[test]
fn the_values_of_other_codecs_and_what_the_entropy_stage_holds_are_checked_too() {
    let x = values(400, 1);
    for (text, bits, levels, from) in [
        ("topk:fraction=1,values=q5", 5, 15, 100),
        ("randk:fraction=1,values=q4", 4, 7, 8),
        ("powersgd:values=q6", 6, 31, 0),
    ] {
        let codec = codec(text).with_shapes(&[(1, 400)]).unwrap();
        let mut payload = encoded(&codec, &x);
        let codes = from + 4 * 2; // two scales
        put(&mut payload[codes..], 399, bits, 2 * levels + 1);
        assert_eq!(fault(&codec, &payload, 400), Some(Fault::Code { index: 399 }), "{text}");
        // As the entropy stage stores what it cannot shorten.
        let stage = crate::naive::codec(&format!("{text}+rans")).with_shapes(&[(1, 400)]).unwrap();
        let stored = [&[0], &*payload].concat();
        assert_eq!(fault(&stage, &stored, 400), Some(Fault::Code { index: 399 }), "{text}+rans");
    }
}

/// Indices 1, 3, 40 and 50 of 64: four low bits each, then a one for each among the high bits, at its high part plus its
/// place, 0, 1, 2 + 2 and 3 + 3; then the numbers.
#[test]
fn indices_have_one_form_and_increase() {
    let codec = codec("topk:fraction=0.0625,values=none");
    let mut x = vec![0.0; 64];
    for at in [1, 3, 40, 50] {
        x[at] = 2.0;
    }
    let good = encoded(&codec, &x);
    assert_eq!(good, [&[0x31, 0x28, 0x53], &*2_f32.to_le_bytes().repeat(4)].concat());
    let changed = |at: usize, byte: u8| {
        let mut payload = good.clone();
        payload[at] = byte;
        fault(&codec, &payload, 64)
    };
    assert_eq!(changed(0, 0x21), None, "2 for 3");
    assert_eq!(changed(0, 0x13), Some(Fault::Indices), "3, then 1");
    assert_eq!(changed(0, 0x11), Some(Fault::Indices), "1 twice");
    assert_eq!(changed(2, 0x13), Some(Fault::Indices), "three indices");
    assert_eq!(changed(2, 0x57), Some(Fault::Indices), "five indices");
    assert_eq!(changed(2, 0xD3), Some(Fault::Padding), "a bit after the last of seven");
    // Three of 48: the low bits end within a byte.
    let three = crate::naive::codec("topk:fraction=0.0625,values=none");
    let mut payload = encoded(&three, &x[..48]);
    payload[1] |= 0x80;
    assert_eq!(fault(&three, &payload, 48), Some(Fault::Padding));
}

/// Of 33 numbers the last is the third; its low bits and the place of its one make it 47 as well.
#[test]
fn an_index_beyond_the_last_number_is_refused() {
    let codec = codec("topk:fraction=0.0625,values=none");
    let mut x = vec![0.0; 33];
    x[32] = 2.0;
    let good = encoded(&codec, &x);
    // Two of 33: four low bits each, and high bits for (33 - 1) >> 4 = 2.
    assert_eq!(good[..2], [0x00, 0b1001]);
    let mut payload = good.clone();
    payload[0] = 0xF0; // 0 and 47
    assert_eq!(fault(&codec, &good, 33), None);
    assert_eq!(fault(&codec, &payload, 33), Some(Fault::Indices));
}

/// A frame with right checksums, of a code that is beyond the levels: nobody mixes it.
#[test]
fn a_sealed_frame_of_bad_codes_is_refused_and_moves_no_row() {
    for text in ["qsgd:levels=4,block=32", "q2", "q3", "q8", "qsgd:levels=4,block=32+rans"] {
        let (codec, n) = (&codec(text), 32);
        let batch = Batch {
            codec,
            columns: n,
            run_id: [1; 16],
            manifest: [2; 16],
            rounds: &[3; 2],
            senders: &SENDERS,
        };
        let slot = HEADER_LEN + codec.payload_len(n).unwrap();
        let mut frames = vec![0; 2 * slot];
        declora_core::encode_frames(&batch, &values(2 * n, 1), &mut frames, 0).unwrap();
        let evil = &mut frames[slot..];
        let stage = usize::from(codec.variable_length());
        evil[HEADER_LEN..].fill(0xFF);
        evil[HEADER_LEN] = 0; // the entropy stage's mark of plain bytes; elsewhere a byte of the scale
        evil[HEADER_LEN + stage..][..4].copy_from_slice(&2_f32.powi(127).next_down().to_le_bytes());
        let (run_id, manifest) = (batch.run_id, batch.manifest);
        let message = Message { run_id, manifest, round: 3, sender: SENDERS[1], codec, elements: n };
        message.seal(evil, Stamp::default()).unwrap();

        let expected = Error::Frame { row: Some(1), fault: Fault::Code { index: 0 } };
        let checked = check_frames(&batch, &frames).unwrap();
        assert_eq!(checked.all_accepted().unwrap_err(), expected, "{text}");
        let mut x = vec![1.0; 2 * n];
        decode_frames(&checked, &mut x).unwrap();
        assert!(x[n..].iter().all(|&x| x == 0.0), "{text}");
        x.fill(1.0);
        let half = MixingMatrix::new(&[0, 2, 4], &[0, 1, 0, 1], &[0.5; 4]).unwrap();
        assert_eq!(half.mix_frames(&checked, &mut x, 1.0).unwrap_err(), expected, "{text}");
        assert!(x.iter().all(|&x| x == 1.0));
    }
}

/// 1000 equal numbers by "natural": the mark, 125 bytes of signs, a table of one value (32 bytes and 12 bits), four
/// states, and no words, as a value that always occurs tells nothing.
#[test]
fn the_entropy_stage_has_one_form_of_a_table_and_ends_where_an_encoder_begins() {
    let codec = codec("natural+rans");
    let good = encoded(&codec, &[1.0; 1000]);
    let (frequency, states) = (158, 160);
    assert_eq!(good.len(), states + 16);
    assert_eq!(fault(&codec, &good, 1000), None);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = good.clone();
        change(&mut payload);
        fault(&codec, &payload, 1000)
    };
    assert_eq!(changed(&|payload| payload[frequency + 1] |= 0x10), Some(Fault::Padding));
    assert_eq!(changed(&|payload| payload.push(0)), Some(Fault::Entropy));
    // The state stays as it is, and so does not end as it must.
    assert_eq!(changed(&|payload| payload[states] = 5), Some(Fault::Entropy));
    // A state of 1 takes a word of 0 at once and becomes the right one: another form of the same message.
    let one = |payload: &mut Vec<u8>| {
        payload[states..].copy_from_slice(&[1, 0, 0, 0].repeat(4));
        payload.extend([0; 8]);
    };
    assert_eq!(changed(&one), Some(Fault::Entropy));
}

/// What the entropy stage would write of 1000 numbers 1.0 by "natural" (exponent 127) if their frequency were another than
/// all of 4096: a right message in every other respect.
fn coded(frequency: u32) -> Vec<u8> {
    let (mut states, mut words) = ([1_u32 << 16; 4], Vec::new());
    for i in (0..1000).rev() {
        let state = &mut states[i % 4];
        if u64::from(*state) >= u64::from(frequency) << 20 {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << 12) + *state % frequency;
    }
    let mut payload = vec![1];
    payload.extend([0; 125]);
    payload.extend((0..32).map(|byte| if byte == 127 / 8 { 1 << (127 % 8) } else { 0 }));
    payload.extend(((frequency - 1) as u16).to_le_bytes());
    payload.extend(states.iter().flat_map(|state| state.to_le_bytes()));
    payload.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    payload
}

#[test]
fn a_table_whose_frequencies_do_not_add_up_is_refused() {
    let codec = codec("natural+rans");
    assert_eq!(coded(4096), encoded(&codec, &[1.0; 1000]));
    for frequency in [4095, 4000, 2048] {
        assert_eq!(fault(&codec, &coded(frequency), 1000), Some(Fault::Entropy), "{frequency}");
    }
}
