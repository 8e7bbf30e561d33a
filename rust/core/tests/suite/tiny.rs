//! Numbers near the lower end of f32: work on subnormal ones takes many CPUs a hundred times as long, so codecs that
//! compute give and take zeros instead.

use declora_core::{Codec, Stream};

use crate::naive::{codec, encoded, values};

fn decoded(codec: &Codec, payload: &[u8], n: usize) -> Vec<f32> {
    let mut z = vec![f32::NAN; n];
    codec.decode_into(payload, &mut z).unwrap();
    z
}

fn set_scales(payload: &mut [u8], scale: f32) {
    payload.chunks_exact_mut(4).for_each(|bytes| bytes.copy_from_slice(&scale.to_le_bytes()));
}

#[test]
fn a_scale_below_an_encoders_decodes_to_zeros() {
    let n = 8192;
    for (text, first, count, least) in [
        ("q2", 0, 32, 2_f32.powi(-112)),
        ("q4", 0, 32, 7.0 * 2_f32.powi(-112)),
        ("qsgd:levels=5", 0, 16, 5.0 * 2_f32.powi(-112)),
        ("eden", 8, 2, 2_f32.powi(-80).next_down()),
        ("drive", 8, 2, 2_f32.powi(-80).next_down()),
    ] {
        let codec = codec(text);
        let mut payload = encoded(&codec, &values(n, 1));
        let at = first..first + 4 * count;
        for scale in [least, 1e-38, 1e-40, f32::from_bits(1)] {
            set_scales(&mut payload[at.clone()], scale);
            assert!(decoded(&codec, &payload, n).iter().all(|&z| z == 0.0), "{text}, {scale:e}");
        }
        set_scales(&mut payload[at], least.next_up());
        let z = decoded(&codec, &payload, n);
        assert!(z.iter().any(|&z| z != 0.0), "{text}");
        assert!(z.iter().all(|&z| z == 0.0 || z.is_normal()), "{text}");
    }
}

/// What the encoder takes for zero the decoder does, too: L 65536 / s is infinite up to the same s for all L.
#[test]
fn the_least_scale_that_an_encoder_writes_is_the_least_that_does_not_decode_to_zeros() {
    for levels in 1..=127_u32 {
        let codec = codec(&format!("qsgd:levels={levels},block=32,norm=max"));
        let end = levels as f32 * 2_f32.powi(-112);
        for (scale, written) in [(end.next_down(), false), (end, false), (end.next_up(), true)] {
            let payload = encoded(&codec, &[scale; 32]);
            assert_eq!(payload[..4] != [0; 4], written, "{levels}, {scale:e}");
            let mut crafted = encoded(&codec, &[1.0; 32]);
            crafted[..4].copy_from_slice(&scale.to_le_bytes());
            assert_eq!(decoded(&codec, &crafted, 32)[0] != 0.0, written, "{levels}, {scale:e}");
        }
    }
}

#[test]
fn eden_sends_blocks_below_2_to_the_minus_70_as_zeros_and_others_within_its_error() {
    for text in ["eden:block=64", "drive:block=65536", "eden:bits=2,rotations=1"] {
        let codec = codec(text);
        let n = 70_000;
        for tiny in [1e-40, 2_f32.powi(-70).next_down()] {
            let mut x = vec![tiny; n];
            x[1] = -0.0;
            let payload = encoded(&codec, &x);
            assert!(payload[8..].iter().all(|&byte| byte == 0), "{text}: no scale, no codes");
            assert!(decoded(&codec, &payload, n).iter().all(|&z| z == 0.0), "{text}");
        }
        // One number at the limit, the others far below it: the least scale of an encoder.
        let mut x = vec![1e-40; n];
        x.iter_mut().step_by(codec.block() as usize).for_each(|x| *x = 2_f32.powi(-70));
        let z = decoded(&codec, &encoded(&codec, &x), n);
        assert!(z.iter().any(|&z| z != 0.0) && z.iter().all(|&z| z == 0.0 || z.is_normal()), "{text}");
        let (x, z) = (x[0], z[0]); // a block's z keeps the product with x, of which this is all
        assert!((z / x - 1.0).abs() < 1e-3, "{text}: {z:e}");
    }
}

#[test]
fn products_of_powersgd_are_zero_or_normal_whatever_the_factors() {
    let codec = codec("powersgd:rank=2").with_shapes(&[(64, 64)]).unwrap();
    for (p, q) in [
        (1e-22, 1e-22),
        (1.0, 1e-40),
        (1e-40, 1e20),
        (1e-9, 1e-20),
        (1e-9, 2.5e-21),
        (1e-9, 1e-30),
        (1e-11, 1.0),
        (1e-45, 1e-45),
    ] {
        let payload: Vec<u8> = values(256, 3)
            .iter()
            .enumerate()
            .flat_map(|(i, x)| (x.clamp(-1.5, 1.5) * if i < 128 { p } else { q }).to_le_bytes())
            .collect();
        let z = decoded(&codec, &payload, 64 * 64);
        assert!(z.iter().all(|&z| z == 0.0 || z.is_normal()), "{p:e}, {q:e}");
        assert_eq!(z.iter().any(|&z| z != 0.0), p > 2_f32.powi(-32) && q > 2_f32.powi(-70), "{p:e}, {q:e}");
    }
}

#[test]
fn powersgd_takes_numbers_below_2_to_the_minus_70_for_zeros() {
    let codec = codec("powersgd:rank=1").with_shapes(&[(30, 20)]).unwrap();
    assert_eq!(encoded(&codec, &[1e-40; 600]), vec![0; 4 * 50]);
    // A matrix of rank 1 with small numbers beside those that it is without them.
    let mut x: Vec<f32> = (0..600).map(|at| if at < 300 { 1.0 } else { 0.0 }).collect();
    let without = encoded(&codec, &x);
    x[300..].fill(-1e-30);
    assert_eq!(encoded(&codec, &x), without);
    // Whole matrices, which are not computed with, are sent as they are.
    let whole = crate::naive::codec("powersgd").with_shapes(&[(1, 3)]).unwrap();
    let mut payload = vec![0; 12];
    whole.encode_into(&[1e-40, -1e-45, 2.0], &mut payload, &Stream::quantizer(0, 0, 0)).unwrap();
    assert_eq!(decoded(&whole, &payload, 3), [1e-40, -1e-45, 2.0]);
}
