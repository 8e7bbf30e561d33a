//! Adding a message to a vector is decoding it and adding, bit for bit.

use declora_core::{Error, Level, with_level};
use rayon::ThreadPoolBuilder;

use crate::naive::{bits, codec, codecs, encoded, values};

#[test]
fn every_codec_adds_what_it_decodes_at_every_level() {
    for n in [0, 1, 31, 33, 1000, 1024, 1025, 9001] {
        let (x, before) = (values(n, 1), values(n, 2));
        for codec in codecs(n) {
            let payload = encoded(&codec, &x);
            let mut z = vec![0.0; n];
            codec.decode_into(&payload, &mut z).unwrap();
            let expected: Vec<f32> = before.iter().zip(&z).map(|(x, z)| x + -0.3 * z).collect();
            for &level in Level::available() {
                let mut out = before.clone();
                with_level(level, || codec.decode_add_into(&payload, -0.3, &mut out)).unwrap();
                assert_eq!(bits(&out), bits(&expected), "{codec}, {n} numbers, {}", level.name());
            }
        }
    }
}

#[test]
fn a_sum_does_not_depend_on_the_number_of_threads() {
    let (codec, x) = (codec("q4"), values(50_001, 1));
    let payload = encoded(&codec, &x);
    let [one, three] = [1, 3].map(|threads| {
        let mut out = x.clone();
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| codec.decode_add_into(&payload, 0.5, &mut out)).unwrap();
        bits(&out)
    });
    assert_eq!(one, three);
}

#[test]
fn what_cannot_be_added_leaves_the_vector_as_it_was() {
    let before = values(64, 1);
    for text in ["q4", "topk", "q4+rans"] {
        let codec = codec(text);
        let good = encoded(&codec, &before);
        let mut out = before.clone();
        let error = codec.decode_add_into(&good[..good.len() - 1], 1.0, &mut out).unwrap_err();
        assert!(matches!(error, Error::Frame { .. }), "{text}: {error}");
        for weight in [f32::NAN, f32::INFINITY] {
            let error = codec.decode_add_into(&good, weight, &mut out).unwrap_err();
            assert!(error.to_string().starts_with("weight="), "{text}: {error}");
        }
        assert_eq!(bits(&out), bits(&before), "{text}");
    }
}
