//! The schemes beside the quantizers: closed-form sizes, invariants of the literature, hostile payloads.

use declora_core::{Codec, Error, Fault, Stream};
use proptest::prelude::*;

use crate::cases::cases;
use crate::naive::{codec, codecs, values};
use crate::trials::{assert_unbiased, average, error, inputs, send, squares};

#[test]
fn sizes_are_the_closed_form() {
    for n in [0_usize, 1, 31, 32, 100, 255, 256, 257, 4096, 4097, 74_498] {
        let len = |text: &str| codec(text).payload_len(n).unwrap();
        assert_eq!(len("natural"), n + n.div_ceil(8));
        assert_eq!(len("sign"), n.div_ceil(256) * 4 + n.div_ceil(8));
        assert_eq!(len("qsgd:levels=15"), n.div_ceil(512) * 4 + (n * 5).div_ceil(8));
        assert_eq!(len("qsgd:levels=7"), n.div_ceil(512) * 4 + (n * 4).div_ceil(8));
        assert_eq!(len("natural+rans"), len("natural") + 1);

        let k = ((n as f64 * 0.05).round() as usize).max(1).min(n);
        let quantized = |k: usize| k.div_ceil(256) * 4 + k;
        let low = n.checked_div(k).map_or(0, |ratio| ratio.ilog2() as usize);
        let high = if k == 0 { 0 } else { ((n - 1) >> low) + k };
        assert_eq!(len("topk"), (k * low).div_ceil(8) + high.div_ceil(8) + quantized(k));
        // At most 2 + log2(n / k) bits an index, and two bytes that are not full.
        let most = k as f64 * (2.0 + (n as f64 / k.max(1) as f64).log2().max(0.0)) / 8.0 + 2.0;
        assert!((len("topk") - quantized(k)) as f64 <= most, "{n}");
        assert_eq!(len("randk:values=none"), 8 + 4 * k);

        let rest = if n % 4096 == 0 { 0 } else { (n % 4096).next_power_of_two().max(32) };
        let padded = n / 4096 * 4096 + rest;
        for bits in 1..=4 {
            let expected = 8 + n.div_ceil(4096) * 4 + padded * bits / 8;
            assert_eq!(len(&format!("eden:bits={bits}")), expected);
        }
    }
    let shapes = [(8, 384), (384, 8), (1, 3), (2, 384)];
    let low_rank = codec("powersgd").with_shapes(&shapes).unwrap();
    assert_eq!(low_rank.payload_len(8 * 384 * 2 + 3 + 2 * 384).unwrap(), 4 * (4 * 392 + 3 + 768));
    assert_eq!(low_rank.payload_len(7).unwrap_err(), Error::Shapes { have: 7, need: 6915 });
}

#[test]
fn no_error_exceeds_its_bound() {
    for n in [1, 64, 1000] {
        for codec in &codecs(n) {
            let bound = codec.error_bound(n);
            for x in inputs(n) {
                // The most that draws of this mean can differ: (bound + 1) ||x||^2 with probability 1 / (bound + 1), else
                // next to nothing. Over 400 draws that is a relative deviation of sqrt((bound + 1) / 400); 4 of these.
                let (_, squared) = average(codec, &x, 400);
                let slack = 1.0 + 4.0 * ((bound + 1.0) / 400.0).sqrt();
                let most = bound * squares(&x) * slack + 1e-12 * squares(&x);
                assert!(squared <= most, "{codec}, {n}: {squared} > {most}");
            }
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for codec in &codecs(1000) {
        assert!(send(codec, &[0.0; 1000], 3).1.iter().all(|&z| z == 0.0), "{codec}");
    }
}

#[test]
fn the_mean_of_many_draws_is_the_input_where_a_codec_is_unbiased() {
    let n = 192;
    for codec in codecs(n).iter().filter(|codec| codec.unbiased() && codec.name() != "eden") {
        for x in inputs(n) {
            assert_unbiased(codec, &x, 2000);
        }
    }
}

#[test]
fn natural_keeps_powers_of_two_and_scales_with_them() {
    let codec = codec("natural");
    let powers: Vec<f32> = (-126..127).flat_map(|e| [2_f32.powi(e), -(2_f32.powi(e))]).collect();
    for round in 0..20 {
        assert_eq!(send(&codec, &powers, round).1, powers);
    }
    let x = values(500, 1);
    let scaled: Vec<f32> = x.iter().map(|x| x * 1024.0).collect();
    let expected: Vec<f32> = send(&codec, &x, 3).1.iter().map(|z| z * 1024.0).collect();
    assert_eq!(send(&codec, &scaled, 3).1, expected);
}

/// omega = 1/8 is reached at 4/3 of a power of two.
#[test]
fn natural_reaches_its_variance_and_no_more() {
    let x = vec![4.0 / 3.0; 1 << 16];
    let (_, z) = send(&codec("natural"), &x, 1);
    // 2^16 draws of a squared error of 1/9 or 4/9 times 3/4: deviation of the mean .0014 (standard deviation .35 / 2^8).
    assert!((error(&x, &z) / squares(&x) - 0.125).abs() < 0.005);
}

#[test]
fn sign_sends_the_mean_magnitude_of_its_block() {
    let x = values(1000, 2);
    let (_, z) = send(&codec("sign:block=64"), &x, 0);
    for (x, z) in x.chunks(64).zip(z.chunks(64)) {
        let mean = x.iter().map(|x| f64::from(x.abs())).sum::<f64>() / x.len() as f64;
        for (x, z) in x.iter().zip(z) {
            assert!((f64::from(z.abs()) / mean - 1.0).abs() < 1e-6);
            assert_eq!(x.is_sign_negative(), z.is_sign_negative());
        }
    }
}

#[test]
fn topk_keeps_the_largest_and_of_equal_ones_the_first() {
    let keep =
        |x: &[f32], fraction: f64| send(&codec(&format!("topk:fraction={fraction},values=none")), x, 0).1;
    assert_eq!(keep(&[1.0, -5.0, 2.0, 2.0, -2.0, 0.5], 0.5), [0.0, -5.0, 2.0, 2.0, 0.0, 0.0]);
    assert_eq!(keep(&[1.0; 4], 0.25), [1.0, 0.0, 0.0, 0.0]);
    let x = values(10_000, 6);
    let z = keep(&x, 0.1);
    let mut magnitudes: Vec<f32> = x.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(z.iter().filter(|&&z| z != 0.0).count(), 1000);
    for (x, z) in x.iter().zip(&z) {
        assert!(if *z == 0.0 { x.abs() <= magnitudes[999] } else { z == x && x.abs() >= magnitudes[999] });
    }
}

#[test]
fn randk_keeps_one_of_every_run_times_its_length() {
    let x: Vec<f32> = (1..=1003).map(|i| i as f32).collect();
    let (_, z) = send(&codec("randk:fraction=0.1,values=none"), &x, 0);
    let kept: Vec<usize> = (0..z.len()).filter(|&i| z[i] != 0.0).collect();
    assert_eq!(kept.len(), 100);
    for (run, &index) in kept.iter().enumerate() {
        let (start, stop) = (run * 1003 / 100, (run + 1) * 1003 / 100);
        assert!((start..stop).contains(&index));
        assert_eq!(z[index], x[index] * (stop - start) as f32);
    }
    assert_ne!(z, send(&codec("randk:fraction=0.1,values=none"), &x, 1).1);
}

#[test]
fn the_entropy_stage_changes_the_length_and_nothing_else() {
    let n = 20_000;
    let mut x = values(n, 5);
    x[..5000].fill(0.0);
    for codec_with in codecs(n).iter().filter(|codec| codec.variable_length()) {
        let plain = codec(codec_with.to_string().trim_end_matches("+rans"))
            .with_shapes(&[(n / 16, 12), (1, n - n / 16 * 12)])
            .unwrap();
        for x in [x.clone(), vec![0.0; n], vec![1.0; n]] {
            let (short, z) = send(codec_with, &x, 2);
            let (long, expected) = send(&plain, &x, 2);
            assert_eq!(z, expected, "{codec_with}");
            assert!(short.len() <= long.len() + 1);
        }
    }
    // Of n equal bytes hardly anything is left.
    assert!(send(&codec("natural+rans"), &vec![1.0; n], 0).0.len() < n / 8 + 100);
    // A coin: its entropy is one bit, and rANS comes within a hundredth of it.
    let coin: Vec<f32> = (0..n).map(|i| if values(1, i as u64)[0] < 0.0 { 1.0 } else { 2.0 }).collect();
    let len = send(&codec("natural+rans"), &coin, 0).0.len() - n / 8;
    assert!((len as f64) < n as f64 / 8.0 * 1.01 + 60.0, "{len}");
}

#[test]
fn text_gives_back_every_setting() {
    for text in [
        "none",
        "q4:block=256,norm=max",
        "qsgd:levels=15,block=512,norm=l2",
        "natural",
        "sign:block=256",
        "topk:fraction=0.05,values=q8",
        "randk:fraction=0.05,values=q8",
        "eden:bits=4,block=4096,rotations=2",
        "powersgd:rank=2,iterations=2,values=none",
        "eden:bits=1,block=4096,rotations=2+rans",
    ] {
        assert_eq!(codec(text).to_string(), text);
        let short = text.split([':', '+']).next().unwrap();
        if !text.contains("bits=1") {
            assert_eq!(codec(short).to_string(), text);
        }
    }
    assert_eq!(codec("drive"), codec("eden:bits=1"));
}

#[test]
fn text_that_names_no_codec_is_refused() {
    let refusal = |text: &str| text.parse::<Codec>().unwrap_err();
    assert!(
        matches!(refusal("q4:blok=32"), Error::UnknownOption { known, .. } if known == ["block", "norm"])
    );
    assert!(matches!(refusal("none:block=32"), Error::UnknownOption { known, .. } if known.is_empty()));
    assert!(matches!(refusal("drive:bits=2"), Error::UnknownOption { .. }));
    assert!(matches!(refusal("q4:block=32,block=64"), Error::UnknownOption { .. }));
    assert_eq!(refusal("q4+zip"), Error::UnknownStage { stage: "zip".to_owned() });
    for (text, field) in [
        ("q4:block=many", "block"),
        ("q4:block=-1", "block"),
        ("q4:norm=l3", "norm"),
        ("qsgd:levels=0", "levels"),
        ("qsgd:levels=128", "levels"),
        ("sign:block=40", "block"),
        ("sign+rans", "stage"),
        ("topk:fraction=0", "fraction"),
        ("topk:fraction=1.01", "fraction"),
        ("topk:fraction=nan", "fraction"),
        ("randk:values=topk", "values"),
        ("topk:values=q9", "values"),
        ("eden:bits=5", "bits"),
        ("eden:bits=0", "bits"),
        ("eden:block=48", "block"),
        ("eden:block=131072", "block"),
        ("eden:rotations=3", "rotations"),
        ("powersgd:rank=0", "rank"),
        ("powersgd:iterations=0", "iterations"),
    ] {
        assert!(
            matches!(refusal(text), Error::CodecSetting { field: found, .. } if found == field),
            "{text}"
        );
    }
}

#[test]
fn numbers_at_their_limit_decode_to_finite_ones_and_beyond_it_are_refused() {
    for n in [40, 5000] {
        for codec in &codecs(n) {
            let mut x = values(n, 1);
            x[17] = f32::INFINITY;
            let mut payload = vec![0; codec.payload_len(n).unwrap()];
            let refused = codec.encode_into(&x, &mut payload, &Stream::quantizer(1, 2, 3)).unwrap_err();
            let Error::Value { index: 17, limit, .. } = refused else { panic!("{refused}") };
            x.fill(limit.min(f32::MAX).next_down());
            assert!(send(codec, &x, 0).1.iter().all(|z| z.is_finite()), "{codec}");
            x[17] = limit;
            assert!(codec.encode_into(&x, &mut payload, &Stream::quantizer(1, 2, 3)).is_err());
            assert!(payload.iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn randk_takes_all_that_its_longest_run_leaves_finite() {
    for (n, longest) in [(20, 20.0), (1000, 10.0), (1003, 11.0)] {
        let codec =
            codec(if n == 20 { "randk:fraction=1e-9,values=none" } else { "randk:fraction=0.1,values=none" });
        let limit = (f32::MAX / longest).next_down();
        let refused = |x: f32| {
            let mut payload = vec![0; codec.payload_len(n).unwrap()];
            codec.encode_into(&vec![x; n], &mut payload, &Stream::quantizer(1, 2, 3)).is_err()
        };
        assert!(refused(limit) && refused(-limit) && !refused(limit.next_down()), "{n}");
        assert!(send(&codec, &vec![limit.next_down(); n], 0).1.iter().all(|z| z.is_finite()));
    }
}

#[test]
fn damaged_indices_padding_and_factors_are_rejected() {
    let x = values(1000, 1);
    let fault = |text: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        let codec = codec(text).with_shapes(&[(50, 20)]).unwrap();
        let (mut payload, _) = send(&codec, &x, 0);
        damage(&mut payload);
        let mut z = vec![-7.0; 1000];
        let error = codec.decode_into(&payload, &mut z).unwrap_err();
        assert!(z.iter().all(|&z| z == -7.0));
        match error {
            Error::Frame { fault, .. } => fault,
            other => panic!("{other}"),
        }
    };
    // 50 indices of 4 low bits: 25 bytes, then 112 high bits.
    assert_eq!(fault("topk:values=none", &|payload| payload[25..39].fill(0)), Fault::Indices);
    assert_eq!(fault("topk:values=none", &|payload| payload[25..39].fill(0xFF)), Fault::Indices);
    assert_eq!(fault("natural", &|payload| payload[3] = 255), Fault::NotFinite { index: 3 });
    assert_eq!(fault("sign", &|payload| payload[3] = 0xFF), Fault::Scale { block: 0 });
    assert_eq!(fault("eden", &|payload| payload[11] = 0x7F), Fault::Scale { block: 0 });
    assert_eq!(fault("powersgd", &|payload| payload[3] = 0x41), Fault::Factor { part: 0, index: 0 });
    assert_eq!(fault("q4+rans", &|payload| payload[0] = 2), Fault::Entropy);
    let odd = codec("natural");
    let (mut payload, _) = send(&odd, &x[..999], 0);
    payload[999 + 124] |= 0x80;
    assert_eq!(odd.decode_into(&payload, &mut vec![0.0; 999]).unwrap_err(), Fault::Padding.into());
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_bytes_give_an_error_or_finite_numbers(
        n in 0_usize..300, seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in 0_usize..40,
    ) {
        for codec in &codecs(n) {
            let need = codec.payload_len(n).unwrap();
            let random: Vec<u8> = bytes.iter().copied().chain(std::iter::repeat(0)).take(need).collect();
            // Good bytes with some others among them get further.
            let (mut damaged, _) = send(codec, &values(n, seed), 1);
            for (i, &byte) in bytes.iter().take(3).enumerate() {
                if let Some(at) = bytes.get(i + 3).filter(|_| !damaged.is_empty()) {
                    let at = usize::from(*at) * 7919 % damaged.len();
                    damaged[at] = byte;
                }
            }
            let short = &damaged[..damaged.len().saturating_sub(cut)];
            for payload in [&bytes[..], &random, &damaged, short] {
                let mut z = vec![0.0; n];
                match codec.decode_into(payload, &mut z) {
                    Ok(()) => prop_assert!(z.iter().all(|z| z.is_finite()), "{}", codec),
                    Err(error) => prop_assert!(matches!(error, Error::Frame { row: None, .. }), "{}", error),
                }
            }
        }
    }

    #[test]
    fn any_floats_are_sent_or_refused_by_index(
        x in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..300),
    ) {
        for codec in &codecs(x.len()) {
            let mut payload = vec![0; codec.payload_len(x.len()).unwrap()];
            match codec.encode_into(&x, &mut payload, &Stream::quantizer(1, 2, 3)) {
                Ok(len) => {
                    let mut z = vec![0.0; x.len()];
                    codec.decode_into(&payload[..len], &mut z).unwrap();
                    prop_assert!(z.iter().all(|z| z.is_finite()));
                }
                Err(Error::Value { index, limit, .. }) => {
                    prop_assert!(x[..index].iter().all(|x| x.abs() < limit));
                    prop_assert!(x[index].is_nan() || x[index].abs() >= limit);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
