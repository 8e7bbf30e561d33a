//! The exact bytes that releases must keep, shared with `tests/test_core.py`.

use declora_core::{Level, Stream, with_level};
use serde_json::Value;

use crate::naive::{bits, codec};

const GOLDEN: &str = include_str!("../../../../tests/golden/quantize.json");

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn floats(hex: &Value) -> Vec<f32> {
    bytes(hex).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn value_stability_of_the_quantizer() {
    let cases: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let number = |name: &str| u32::try_from(case[name].as_u64().unwrap()).unwrap();
        let (bits_of, block, norm) = (number("bits"), number("block"), case["norm"].as_str().unwrap());
        let codec = codec(&format!("q{bits_of}:block={block},norm={norm}"));
        let seed = case["seed"].as_str().unwrap().parse().unwrap();

        let x = floats(&case["x"]);
        for &level in Level::available() {
            let mut payload = vec![0; codec.payload_len(x.len()).unwrap()];
            let stream = Stream::quantizer(seed, number("round"), number("client"));
            with_level(level, || codec.encode_into(&x, &mut payload, &stream)).unwrap();
            assert_eq!(payload, bytes(&case["payload"]), "{codec}, {}", level.name());

            let mut y = vec![0.0; x.len()];
            with_level(level, || codec.decode_into(&payload, &mut y)).unwrap();
            assert_eq!(bits(&y), bits(&floats(&case["y"])), "{codec}, {}", level.name());
        }
    }
}
