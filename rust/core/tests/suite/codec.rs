//! The other codecs, names, ids and sizes.

use declora_core::{Codec, Error, Fault, MAX_ELEMENTS, Stream, crc32c};
use half::{bf16, f16};

use crate::naive::{codec, codecs, values};

fn encode(codec: &Codec, x: &[f32]) -> Result<Vec<u8>, Error> {
    let mut payload = vec![0xAA; codec.payload_len(x.len())?];
    let len = codec.encode_into(x, &mut payload, &Stream::quantizer(1, 2, 3))?;
    payload.truncate(len);
    Ok(payload)
}

#[test]
fn every_name_gives_a_codec_of_that_name_and_of_its_own_id() {
    let mut ids: Vec<u32> = Codec::NAMES.iter().map(|name| codec(name).id()).collect();
    assert!(
        Codec::NAMES.iter().all(|name| codec(name).name() == if *name == "drive" { "eden" } else { name })
    );
    ids.extend(
        ["q4:norm=l2", "q4+rans", "qsgd:levels=7", "topk:values=q4", "eden:rotations=1"]
            .map(|text| codec(text).id()),
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), Codec::NAMES.len() + 5);
}

#[test]
fn ids_are_those_of_the_wire_format() {
    assert_eq!(codec("none").id(), 0x0000_2001);
    assert_eq!(codec("fp16").id(), 0x0000_1002);
    assert_eq!(codec("bf16").id(), 0x0000_1003);
    assert_eq!(codec("q4").id(), 0x0001_0404);
    assert_eq!(codec("q8:block=32,norm=l2").id(), 0x0002_0804);
    assert_eq!(codec("qsgd:levels=100").id(), 0x0002_6405);
    assert_eq!(codec("natural").id(), 0x0000_0906);
    assert_eq!(codec("natural+rans").id(), 0x0000_0986);
    assert_eq!(codec("sign").id(), 0x0000_0107);
    assert_eq!(codec("topk").id(), 0x0004_0808);
    assert_eq!(codec("randk:values=bf16").id(), 0x0003_1009);
    assert_eq!(codec("eden:bits=3").id(), 0x0002_030A);
    assert_eq!(codec("powersgd").id(), 0x0001_200B);
    assert_eq!((codec("none").block(), codec("q8:block=32").block()), (0, 32));
    assert_eq!((codec("sign:block=64").block(), codec("drive").block()), (64, 4096));
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    for name in ["", "q", "q1", "q9", "q44", "Q4", "float32"] {
        let error = name.parse::<Codec>().unwrap_err();
        assert_eq!(error, Error::UnknownCodec { name: name.to_owned(), known: &Codec::NAMES });
        assert!(error.to_string().contains("none, fp16, bf16, q2"));
    }
    assert!("q4:norm=max ".parse::<Codec>().is_err());
}

#[test]
fn payload_sizes_are_the_closed_form() {
    for n in [0, 1, 255, 256, 257, 1_000_003] {
        assert_eq!(codec("none").payload_len(n).unwrap(), 4 * n);
        assert_eq!(codec("fp16").payload_len(n).unwrap(), 2 * n);
        assert_eq!(codec("bf16").payload_len(n).unwrap(), 2 * n);
        for bits in 2..=8 {
            let expected = n.div_ceil(256) * 4 + (n * bits).div_ceil(8);
            assert_eq!(codec(&format!("q{bits}")).payload_len(n).unwrap(), expected);
        }
    }
}

#[test]
fn sizes_never_overflow() {
    for name in Codec::NAMES.into_iter().filter(|name| *name != "powersgd") {
        assert!(codec(name).payload_len(MAX_ELEMENTS as usize).is_ok());
        for n in [MAX_ELEMENTS as usize + 1, usize::MAX] {
            assert!(codec(name).payload_len(n).unwrap_err().to_string().contains("at most 2^35"));
        }
    }
}

#[test]
fn none_keeps_every_bit() {
    let mut x = values(10_000, 5);
    x[..4].copy_from_slice(&[-0.0, f32::from_bits(1), f32::MAX, f32::MIN_POSITIVE]);
    let mut y = vec![0.0; x.len()];
    codec("none").decode_into(&encode(&codec("none"), &x).unwrap(), &mut y).unwrap();
    assert!(x.iter().zip(&y).all(|(x, y)| x.to_bits() == y.to_bits()));
}

#[test]
fn halves_round_to_nearest_even_as_the_half_crate_does() {
    let mut x = values(10_000, 6);
    for (i, x) in x.iter_mut().enumerate().take(5000) {
        *x *= 2_f32.powi(i as i32 % 40 - 28); // subnormal halves too
    }
    let (mut y, mut z) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    codec("fp16").decode_into(&encode(&codec("fp16"), &x).unwrap(), &mut y).unwrap();
    codec("bf16").decode_into(&encode(&codec("bf16"), &x).unwrap(), &mut z).unwrap();
    for ((x, y), z) in x.iter().zip(&y).zip(&z) {
        assert_eq!(y.to_bits(), f16::from_f32_const(*x).to_f32_const().to_bits(), "{x:e}");
        assert_eq!(z.to_bits(), bf16::from_f32_const(*x).to_f32_const().to_bits(), "{x:e}");
    }
}

#[test]
fn numbers_that_would_become_infinite_are_refused_by_index() {
    let cases = [
        ("none", f32::MAX, f32::INFINITY),
        ("fp16", 65519.996, 65520.0),
        ("bf16", f32::from_bits(0x7F7F_7FFF), f32::from_bits(0x7F7F_8000)),
        ("q4", 2_f32.powi(127).next_down(), 2_f32.powi(127)),
    ];
    for (name, fits, too_large) in cases {
        assert!(encode(&codec(name), &[fits, -fits]).is_ok(), "{name}");
        for bad in [too_large, -too_large, f32::NAN, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 20_000];
            x[9000] = bad;
            x[15_000] = f32::NAN;
            let error = encode(&codec(name), &x).unwrap_err();
            assert!(matches!(error, Error::Value { index: 9000, .. }), "{name} {bad}: {error}");
            let message = error.to_string();
            assert!(message.contains("x[9000]=") && message.contains(name), "{message}");
        }
    }
}

#[test]
fn payloads_with_infinite_numbers_are_rejected_and_nothing_is_written() {
    let words: [(&str, &[&[u8]]); 3] = [
        ("none", &[&[0, 0, 0x80, 0x7F], &[1, 0, 0x80, 0xFF]]),
        ("fp16", &[&[0, 0x7C], &[1, 0xFC]]),
        ("bf16", &[&[0x80, 0x7F], &[0x81, 0xFF]]),
    ];
    for (name, bad) in words {
        for bytes in bad {
            let mut payload = encode(&codec(name), &[1.0; 9000]).unwrap();
            for at in [8500, 8700] {
                payload[at * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
            }
            let mut y = vec![-7.0; 9000];
            let error = codec(name).decode_into(&payload, &mut y).unwrap_err();
            assert_eq!(error, Fault::NotFinite { index: 8500 }.into());
            assert!(y.iter().all(|&y| y == -7.0));
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for codec in codecs(100) {
        let x = values(100, 7);
        let need = codec.payload_len(100).unwrap();
        for have in [0, need - 1, need + 1] {
            let error = codec.encode_into(&x, &mut vec![0; have], &Stream::quantizer(1, 2, 3)).unwrap_err();
            assert_eq!(error, Error::Length { field: "out", have, need });
            let error = codec.decode_into(&vec![0; have], &mut [0.0; 100]).unwrap_err();
            let shorter = codec.variable_length() && have < need;
            assert_eq!(error, if shorter { Fault::Entropy } else { Fault::Size { have, need } }.into());
        }
    }
}

#[test]
fn crc32c_is_that_of_rfc_3720() {
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46DD_794E);
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn every_codec_names_the_options_that_it_writes() {
    for name in Codec::NAMES {
        let written = codec(name).to_string();
        let options = written.split_once(':').map_or("", |(_, options)| options);
        let keys: Vec<_> = options.split(',').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        let taken = Codec::options(name).unwrap();
        assert!(keys.iter().all(|key| taken.contains(key) || name == "drive"), "{name}: {keys:?} {taken:?}");
    }
    assert_eq!(Codec::options("drive").unwrap(), ["block", "rotations"]);
    assert_eq!(Codec::options("q9"), None);
}
