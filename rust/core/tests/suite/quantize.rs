//! The quantizer: every byte equals the oracle's, and the rounding has no bias.

use declora_core::{Codec, Error, Fault, Norm, Stream};
use proptest::prelude::*;

use crate::cases::cases;
use crate::naive::{self, Settings};

const LENGTHS: [usize; 23] =
    [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 95, 97, 127, 128, 129, 255, 257, 8191, 8193];

fn settings(bits: u32, block: usize, norm: Norm) -> Settings {
    Settings { bits, block, norm, seed: 0xfeed_0000_0000_beef, round: 5, client: 17 }
}

fn codec(settings: &Settings) -> Codec {
    naive::codec(&format!("q{}:block={},norm={}", settings.bits, settings.block, settings.norm.name()))
}

fn encode(x: &[f32], settings: &Settings) -> Result<Vec<u8>, Error> {
    let codec = codec(settings);
    let mut payload = vec![0xAA; codec.payload_len(x.len())?];
    let stream = Stream::quantizer(settings.seed, settings.round, settings.client);
    codec.encode_into(x, &mut payload, &stream).map(|_| payload)
}

fn decode(payload: &[u8], n: usize, settings: &Settings) -> Result<Vec<f32>, Error> {
    let mut y = vec![-7.0; n];
    codec(settings).decode_into(payload, &mut y).map(|()| y)
}

fn assert_matches_naive(x: &[f32], settings: &Settings) {
    let payload = encode(x, settings).unwrap();
    assert_eq!(payload, naive::encode(x, settings), "{} bits, block {}", settings.bits, settings.block);
    let y = decode(&payload, x.len(), settings).unwrap();
    assert_eq!(naive::bits(&y), naive::bits(&naive::decode(&payload, x.len(), settings)));
}

#[test]
fn quantize_matches_naive_at_every_edge_length() {
    for n in LENGTHS {
        let x = naive::values(n, n as u64);
        for bits in 2..=8 {
            for (block, norm) in [(32, Norm::Max), (96, Norm::L2), (256, Norm::Max), (1024, Norm::L2)] {
                assert_matches_naive(&x, &settings(bits, block, norm));
            }
        }
    }
}

#[test]
fn quantize_matches_naive_with_one_block_longer_than_a_tile() {
    let x = naive::values(20_000, 4);
    assert_matches_naive(&x, &settings(4, 1 << 20, Norm::Max));
    assert_matches_naive(&x, &settings(3, 16_384 + 32, Norm::L2));
}

/// Any float below 2^127 in magnitude.
fn below_the_limit() -> impl Strategy<Value = f32> {
    (0..2_f32.powi(127).to_bits(), any::<bool>()).prop_map(|(bits, negative)| {
        let x = f32::from_bits(bits);
        if negative { -x } else { x }
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn quantize_matches_naive_on_any_floats(
        x in prop::collection::vec(below_the_limit(), 0..400),
        bits in 2_u32..=8, block in 1_usize..10, l2: bool, seed: u64, round: u32, client: u32,
    ) {
        let norm = if l2 { Norm::L2 } else { Norm::Max };
        let settings = Settings { bits, block: block * 32, norm, seed, round, client };
        let payload = encode(&x, &settings).unwrap();
        prop_assert_eq!(&payload, &naive::encode(&x, &settings));
        let y = decode(&payload, x.len(), &settings).unwrap();
        prop_assert_eq!(y, naive::decode(&payload, x.len(), &settings));
    }

    #[test]
    fn decoding_any_bytes_gives_an_error_or_finite_numbers(
        n in 0_usize..200, bits in 2_u32..=8, bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let settings = settings(bits, 64, Norm::Max);
        let len = codec(&settings).payload_len(n).unwrap();
        for payload in [bytes.clone(), bytes.into_iter().chain(std::iter::repeat(0)).take(len).collect()] {
            match decode(&payload, n, &settings) {
                Ok(y) => prop_assert!(y.iter().all(|y| y.is_finite())),
                Err(error) => {
                    let refused = matches!(error, Error::Frame { row: None, .. });
                    prop_assert!(refused, "{error}");
                }
            }
        }
    }
}

#[test]
fn an_error_is_below_one_step_of_its_block() {
    let x = naive::values(1000, 1);
    for bits in 2..=8 {
        let settings = settings(bits, 128, Norm::Max);
        let y = decode(&encode(&x, &settings).unwrap(), x.len(), &settings).unwrap();
        let levels = f64::from((1 << (bits - 1)) - 1);
        for (x, y) in x.chunks(128).zip(y.chunks(128)) {
            let step = x.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs()))) / levels;
            for (x, y) in x.iter().zip(y) {
                // 1e-6: the division s / L and the product q * (s / L) are rounded to f32.
                assert!((f64::from(*x) - f64::from(*y)).abs() <= step * (1.0 + 1e-6) + 1e-6);
            }
        }
    }
}

/// A rounding error is within one step, so its standard deviation is at most step / 2, whatever x.
/// Mean over T rounds of one element: at most step / (2 sqrt(T)) = step / 128; 5 of these for 256 elements.
/// Mean over T rounds and n elements: step / (2 sqrt(n T)) = step / 2048; 4 of these, plus the bias of V.
#[test]
fn rounding_is_unbiased() {
    const ROUNDS: u32 = 4096;
    let n = 256;
    let x = naive::values(n, 8);
    for (bits, norm) in [(2, Norm::Max), (4, Norm::Max), (3, Norm::L2), (8, Norm::Max)] {
        let settings = settings(bits, 256, norm);
        let mut sums = vec![0.0; n];
        let mut step = 0.0;
        for round in 0..ROUNDS {
            let settings = Settings { round, ..settings };
            let payload = encode(&x, &settings).unwrap();
            let scale = f32::from_le_bytes(payload[..4].try_into().unwrap());
            step = f64::from(scale) / f64::from((1 << (bits - 1)) - 1);
            let y = decode(&payload, n, &settings).unwrap();
            sums.iter_mut().zip(&y).for_each(|(sum, &y)| *sum += f64::from(y));
        }
        let errors: Vec<f64> =
            sums.iter().zip(&x).map(|(sum, &x)| (sum / f64::from(ROUNDS) - f64::from(x)) / step).collect();
        let worst = errors.iter().fold(0.0, |worst: f64, error| worst.max(error.abs()));
        let mean = errors.iter().sum::<f64>() / n as f64;
        assert!(worst < 5.0 / 128.0 + 2_f64.powi(-17), "{bits} bits: worst bias {worst} steps");
        assert!(mean.abs() < 4.0 / 2048.0 + 2_f64.powi(-17), "{bits} bits: mean bias {mean} steps");
        assert!(worst > 0.0, "the rounding must differ from round to round");
    }
}

#[test]
fn multiples_of_a_step_are_exact() {
    for bits in 2..=8 {
        let levels = (1_i32 << (bits - 1)) - 1;
        let x: Vec<f32> = (-levels..=levels).map(|q| q as f32 * 0.5).collect();
        let settings = settings(bits, 256, Norm::Max);
        let y = decode(&encode(&x, &settings).unwrap(), x.len(), &settings).unwrap();
        assert_eq!(x, y, "{bits} bits");
    }
}

#[test]
fn blocks_of_zeros_or_of_values_too_small_to_scale_give_zeros() {
    // L * 65536 / s is finite down to about 2^-105 for L = 7.
    for tiny in [0.0, -0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1e-33] {
        let mut x = vec![tiny; 96];
        x[32..64].fill(1.0);
        let settings = settings(4, 32, Norm::Max);
        let payload = encode(&x, &settings).unwrap();
        assert_eq!(payload[..4], [0; 4]);
        let y = decode(&payload, 96, &settings).unwrap();
        assert!(y[..32].iter().chain(&y[64..]).all(|&y| y == 0.0));
        assert_eq!(y[32..64], [1.0; 32]);
    }
    let x = [1e-31; 32];
    let settings = settings(4, 32, Norm::Max);
    assert_eq!(decode(&encode(&x, &settings).unwrap(), 32, &settings).unwrap(), x);
}

#[test]
fn a_block_does_not_depend_on_the_others() {
    let x = naive::values(512, 3);
    let mut other = x.clone();
    other[..256].iter_mut().for_each(|x| *x *= 3.0);
    let settings = settings(5, 256, Norm::Max);
    let (a, b) = (encode(&x, &settings).unwrap(), encode(&other, &settings).unwrap());
    assert_eq!((&a[4..8], &a[8 + 160..]), (&b[4..8], &b[8 + 160..]));
}

#[test]
fn each_part_of_the_stream_changes_the_bytes() {
    let x = naive::values(512, 3);
    let base = settings(4, 256, Norm::Max);
    let first = encode(&x, &base).unwrap();
    assert_eq!(first, encode(&x, &base).unwrap());
    for other in [
        Settings { seed: base.seed ^ 1, ..settings(4, 256, Norm::Max) },
        Settings { seed: base.seed ^ 1 << 63, ..settings(4, 256, Norm::Max) },
        Settings { round: base.round + 1, ..settings(4, 256, Norm::Max) },
        Settings { client: base.client + 1, ..settings(4, 256, Norm::Max) },
    ] {
        assert_ne!(first, encode(&x, &other).unwrap());
    }
}

#[test]
fn the_first_number_that_cannot_be_quantized_is_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2_f32.powi(127), -f32::MAX] {
        for at in [0, 31, 32, 200, 8191, 8192, 19_999] {
            let mut x = naive::values(20_000, 2);
            x[at..].iter_mut().step_by(7).for_each(|x| *x = bad);
            for norm in [Norm::Max, Norm::L2] {
                let settings = settings(4, 64, norm);
                let codec = codec(&settings);
                let mut payload = vec![0xAA; codec.payload_len(x.len()).unwrap()];
                let stream = Stream::quantizer(0, 0, 0);
                let error = codec.encode_into(&x, &mut payload, &stream).unwrap_err();
                assert!(matches!(error, Error::Value { row: None, index, codec: "q4", .. } if index == at));
                assert!(payload.iter().all(|&byte| byte == 0), "nothing of it may be sent");
            }
        }
    }
}

#[test]
fn the_largest_numbers_survive_the_round_trip() {
    let largest = 2_f32.powi(127).next_down();
    for bits in 2..=8 {
        for norm in [Norm::Max, Norm::L2] {
            let settings = settings(bits, 32, norm);
            let y = decode(&encode(&[largest, -largest], &settings).unwrap(), 2, &settings).unwrap();
            assert!(y.iter().all(|y| y.is_finite()));
            assert!((y[0] / largest - 1.0).abs() < 1e-6 || norm == Norm::L2);
        }
    }
}

#[test]
fn bad_scales_are_rejected_and_nothing_is_written() {
    let settings = settings(4, 32, Norm::Max);
    let good = encode(&naive::values(100, 1), &settings).unwrap();
    for bad in [f32::NAN, f32::INFINITY, -1.0, -0.0, 2_f32.powi(127), f32::MAX] {
        let mut payload = good.clone();
        payload[8..12].copy_from_slice(&bad.to_le_bytes());
        let mut y = vec![-7.0; 100];
        let error = codec(&settings).decode_into(&payload, &mut y).unwrap_err();
        assert_eq!(error, Fault::Scale { block: 2 }.into(), "{bad}");
        assert_eq!(y, [-7.0; 100]);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for block in [0, 1, 31, 33, (1 << 20) + 32, usize::MAX] {
        let message = format!("q4:block={block}").parse::<Codec>().unwrap_err().to_string();
        assert!(message.starts_with(&format!("block={block} cannot be used")), "{message}");
    }
    assert!("l3".parse::<Norm>().unwrap_err().to_string().contains("norm=\"l3\""));
}
