//! Every instruction set gives the bytes and bits of the portable loops.

use declora_core::frame::HEADER_LEN;
use declora_core::{
    Batch, Codec, Error, Factors, Level, Mixed, Stream, check_frames, consensus_distance, dropout_mask_into,
    encode_frames, product_distance, with_level,
};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::cases::cases;
use crate::naive::{bits, codec, codecs, matrix, symmetric, values};

/// The levels to compare with the portable one; says which ones this CPU cannot run.
fn wider() -> impl Iterator<Item = Level> {
    let available = Level::available();
    for name in Level::NAMES.iter().filter(|name| available.iter().all(|level| level.name() != **name)) {
        eprintln!("{name} is not tested: this CPU lacks it");
    }
    available.iter().copied().filter(|&level| level != Level::Portable)
}

fn quantizers() -> impl Iterator<Item = Codec> {
    let kinds = [(32, "max"), (96, "l2"), (160, "max"), (256, "max"), (256, "l2"), (1024, "l2")];
    (2..=8).flat_map(move |bits| {
        kinds.into_iter().map(move |(block, norm)| codec(&format!("q{bits}:block={block},norm={norm}")))
    })
}

/// Payload and what is decoded from it, as bits.
fn round_trip(codec: &Codec, x: &[f32]) -> Result<(Vec<u8>, Vec<u32>), Error> {
    let mut payload = vec![0xAA; codec.payload_len(x.len())?];
    let len = codec.encode_into(x, &mut payload, &Stream::quantizer(0xFEED_5EED_0BAD_CAFE, 9, 4))?;
    payload.truncate(len);
    let mut y = vec![-7.0; x.len()];
    codec.decode_into(&payload, &mut y)?;
    Ok((payload, bits(&y)))
}

fn assert_equal_at_every_level<T: PartialEq>(what: impl std::fmt::Debug, work: impl Fn() -> T) {
    let expected = with_level(Level::Portable, &work);
    for level in wider() {
        assert!(with_level(level, &work) == expected, "{} differs: {what:?}", level.name());
    }
}

#[test]
fn levels_are_portable_first_and_can_be_forced() {
    assert_eq!(Level::available()[0], Level::Portable);
    for &level in Level::available() {
        assert_eq!(with_level(level, Level::current), level);
        assert!(Level::NAMES.contains(&level.name()));
    }
}

#[test]
fn every_codec_of_every_short_length_is_the_same_at_every_level() {
    let x = values(640, 3);
    let others =
        ["none", "fp16", "bf16", "natural", "sign:block=96", "eden:bits=3,block=64", "qsgd:levels=5"];
    for codec in quantizers().chain(others.map(codec)) {
        assert_equal_at_every_level(&codec, || {
            // The start moves too, so that vectors lie across cache lines in every way.
            (0..=600).map(|n| round_trip(&codec, &x[n % 19..][..n]).unwrap()).collect::<Vec<_>>()
        });
    }
}

#[test]
fn long_messages_are_the_same_at_every_level_and_number_of_threads() {
    let x = values(70_001, 8);
    let quantizers = ["q4", "q8:block=96,norm=l2", "q3:block=1048576,norm=l2", "q2:block=16416"];
    for codec in quantizers.map(codec).into_iter().chain(codecs(x.len())) {
        let expected = with_level(Level::Portable, || round_trip(&codec, &x).unwrap());
        for threads in [1, 2, 3] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for level in wider() {
                let found = with_level(level, || pool.install(|| round_trip(&codec, &x).unwrap()));
                assert!(found == expected, "{} with {threads} threads: {codec:?}", level.name());
            }
        }
    }
}

#[test]
fn extreme_numbers_are_the_same_at_every_level() {
    let tiny = f32::from_bits(1);
    let largest = 2_f32.powi(127).next_down();
    let step = 1.0 / 127.0 / 65536.0; // halves of it are ties of the 8-bit fixed point where s = 1
    let ends = [1.0, -1.0, 0.5 * step, -0.5 * step, 1.5 * step, -2.5 * step, 0.0, -0.0];
    for scale in
        [1.0, 3.0, 0.1, 1e-30, 1e-32, 1e-33, f32::MIN_POSITIVE, tiny, largest, 1e19, 1.0_f32.next_down()]
    {
        let x: Vec<f32> = ends.iter().cycle().take(333).map(|x| x * scale).collect();
        for codec in quantizers() {
            assert_equal_at_every_level((&codec, scale), || round_trip(&codec, &x).unwrap());
        }
    }
}

/// The product of a number with L * 2^16 / s may exceed L * 2^16, by rounding: only then a clamp acts.
#[test]
fn the_ends_of_a_block_are_the_same_at_every_level_whatever_its_scale() {
    let x: Vec<f32> = (0..20_000_u32)
        .flat_map(|i| {
            let s = f32::from_bits(0x3F80_0000 + i.wrapping_mul(0x9E37_79B1) % 0x0080_0000);
            [s, -s].into_iter().chain([s.next_down(), -s.next_down()]).chain([s; 28])
        })
        .collect();
    for bits in 2..=8 {
        let codec = codec(&format!("q{bits}:block=32"));
        assert_equal_at_every_level(&codec, || round_trip(&codec, &x).unwrap());
    }
}

#[test]
fn the_first_bad_number_is_the_same_at_every_level() {
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2_f32.powi(127), f32::MAX] {
        for at in [0, 1, 15, 16, 31, 127, 128, 300, 511, 512, 599, 9000] {
            let mut x = values(9001, 2);
            x[at] = bad;
            x[9000] = f32::NAN;
            for codec in quantizers() {
                for &level in Level::available() {
                    let error = with_level(level, || round_trip(&codec, &x).unwrap_err());
                    assert!(
                        matches!(error, Error::Value { index, .. } if index == at),
                        "{} {error}",
                        level.name()
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_floats_are_the_same_at_every_level(
        x in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..700),
        exponent in 1_u32..254, bits in 2_u32..=8, block in 1_usize..12, l2: bool,
    ) {
        // As they are, and all of about the same magnitude.
        let alike: Vec<f32> =
            x.iter().map(|x| f32::from_bits(x.to_bits() & 0x80FF_FFFF | exponent << 23)).collect();
        let norm = if l2 { "l2" } else { "max" };
        let codec = codec(&format!("q{bits}:block={},norm={norm}", block * 32));
        for x in [&x, &alike] {
            let expected = with_level(Level::Portable, || round_trip(&codec, x));
            for level in wider() {
                let found = with_level(level, || round_trip(&codec, x));
                match (&expected, &found) { // errors carry the number, which may be NaN
                    (Err(a), Err(b)) => prop_assert_eq!(a.to_string(), b.to_string()),
                    (a, b) => prop_assert_eq!(a, b),
                }
            }
        }
    }
}

fn mixed<T: Mixed + Default>(rows: usize, z: &[T], x: &[T]) -> Vec<Vec<T>> {
    let matrix = matrix(&symmetric(rows, 2));
    let (mut apart, mut in_place) = (x.to_vec(), x.to_vec());
    matrix.mix_into(z, &mut apart, 0.3).unwrap();
    matrix.mix_in_place(&mut in_place, 0.9).unwrap();
    vec![apart, in_place]
}

#[test]
fn mixing_is_the_same_at_every_level() {
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    for columns in (0..=300).chain([2048, 4099]) {
        let (z, x) = (values(5 * columns, 1), values(5 * columns, 2));
        assert_equal_at_every_level(columns, || mixed(5, &z, &x).iter().map(|x| bits(x)).collect::<Vec<_>>());
        let (z, x) = (wide(&z), wide(&x));
        let bits = |x: &Vec<f64>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_equal_at_every_level(columns, || mixed(5, &z, &x).iter().map(bits).collect::<Vec<_>>());
    }
}

#[test]
fn mixing_frames_is_the_same_at_every_level() {
    let senders = [0, 1, 2, 3];
    let matrix = matrix(&symmetric(4, 2));
    for columns in [1, 31, 64, 65, 600, 5000] {
        let x = values(4 * columns, 7);
        for codec in quantizers() {
            assert_equal_at_every_level((&codec, columns), || {
                let batch = Batch {
                    codec: &codec,
                    columns,
                    run_id: [0; 16],
                    manifest: [0; 16],
                    rounds: &[3; 4],
                    senders: &senders,
                };
                let mut bytes = vec![0; 4 * (HEADER_LEN + codec.payload_len(columns).unwrap())];
                encode_frames(&batch, &x, &mut bytes, 5).unwrap();
                let mut fused = x.clone();
                let frames = check_frames(&batch, &bytes).unwrap();
                matrix.mix_frames(&frames, &mut fused, 0.9).unwrap();
                (bytes, bits(&fused))
            });
        }
    }
}

#[test]
fn the_product_distance_is_the_same_at_every_level() {
    for (rows, rank, outputs, inputs) in [(3, 2, 17, 9), (40, 3, 12, 30)] {
        let layer = Factors { a: 1, b: 1 + rank * inputs, rank, outputs, inputs, scaling: 0.5 };
        let x = values(rows * (1 + rank * (inputs + outputs)), 3);
        assert_equal_at_every_level((rows, rank), || product_distance(&x, rows, &[layer]).unwrap().to_bits());
    }
}

#[test]
fn the_consensus_distance_is_the_same_at_every_level() {
    for (rows, columns) in [(1, 7), (3, 1023), (4, 1024), (5, 1100), (70, 300), (600, 2050)] {
        let x = values(rows * columns, 6);
        assert_equal_at_every_level((rows, columns), || consensus_distance(&x, rows).unwrap().to_bits());
    }
}

#[test]
fn masks_are_the_same_at_every_level() {
    for n in 0..=300 {
        assert_equal_at_every_level(n, || {
            let mut mask = vec![0.0; 2 * n];
            dropout_mask_into(&mut mask, 0.3, (1, 2), &[4, 7], &[5, 6]).unwrap();
            bits(&mask)
        });
    }
}
