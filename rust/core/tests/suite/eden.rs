//! "eden": its error, its bias, and the product with what was sent that every draw keeps.

use declora_core::Codec;

use crate::naive::{codec, values};
use crate::trials::{assert_unbiased, average, inputs, send, squares};

/// V23. In short blocks small numbers beside a far one are biased, so blocks are long.
#[test]
fn eden_is_unbiased_in_long_blocks() {
    let mut heavy = values(4096, 3);
    heavy.iter_mut().for_each(|x| *x = x.powi(5));
    for codec in ["drive", "eden:bits=2", "eden:bits=3", "eden:bits=4"].map(codec) {
        for x in inputs(4096).iter().chain([&heavy]) {
            assert_unbiased(&codec, x, 200);
        }
    }
}

/// <z, x> = ||x||^2 in every draw, for each block: the scale makes it so.
#[test]
fn eden_keeps_the_product_with_what_was_sent() {
    for text in ["drive", "eden:bits=2,block=64", "eden:bits=3", "eden:bits=4,rotations=1"] {
        for n in [33, 64, 1000, 5000] {
            for x in inputs(n).into_iter().skip(1) {
                let (_, z) = send(&codec(text), &x, 7);
                let block = codec(text).block() as usize;
                for (x, z) in x.chunks(block).zip(z.chunks(block)) {
                    let product: f64 = x.iter().zip(z).map(|(&x, &z)| f64::from(x) * f64::from(z)).sum();
                    // Rounding of the rotation there and back: some 2^-24 per step of about 50.
                    assert!((product - squares(x)).abs() <= 3e-6 * squares(x).max(1e-30), "{text} {n}");
                }
            }
        }
    }
}

/// V23: .571, .133, .0358, .0096, within 5% at 2^14 numbers.
#[test]
fn eden_has_the_error_of_its_table() {
    for (bits, expected) in [(1, 0.5708), (2, 0.1331), (3, 0.03578), (4, 0.00959)] {
        let mut sparse = vec![0.0; 1 << 14];
        (sparse[0], sparse[5]) = (2.0, 1.0);
        for x in [values(1 << 14, 9), sparse] {
            let (_, squared) = average(&codec(&format!("eden:bits={bits},block=16384")), &x, 10);
            let found = squared / squares(&x);
            assert!((found / expected - 1.0).abs() < 0.05, "{bits} bits: {found}");
        }
    }
}

/// One rotation decodes (2, 1, 0, ...) to (2.5, 0, ...) whatever the seed; two do not.
#[test]
fn eden_is_unbiased_on_sparse_vectors_with_two_rotations_only() {
    let mut x = vec![0.0; 1024];
    (x[0], x[1]) = (2.0, 1.0);
    let first = |rotations: u32, rounds: u32| {
        average(&codec(&format!("drive:block=1024,rotations={rotations}")), &x, rounds).0[0]
    };
    assert!((first(1, 50) - 2.5).abs() < 1e-4);
    // The error of a draw is .57 * 5 spread over 1024 numbers, so .053 on one of them; over 400 draws .0026.
    assert!((first(2, 400) - 2.0).abs() < 0.02);
}

/// ||E z - x|| / ||x|| for the block whose first numbers are `few`, the others 0; those others have no bias, as the signs
/// of the first rotation are as often one as the other. A message is of 2^16 numbers, blocks with rotations of their own.
fn bias(codec: &Codec, few: &[f32], rounds: u32) -> f64 {
    let block = codec.block() as usize;
    let mut x = vec![0.0; 1 << 16];
    x.chunks_mut(block).for_each(|x| x[..few.len()].copy_from_slice(few));
    let (mean, _) = average(codec, &x, rounds);
    let blocks = (x.len() / block) as f64;
    let of = |i: usize| mean.iter().skip(i).step_by(block).sum::<f64>() / blocks - f64::from(few[i]);
    ((0..few.len()).map(|i| of(i).powi(2)).sum::<f64>() / squares(few)).sqrt()
}

/// The errors of a draw are spread over the block, so on 3 of 4096 numbers they are sqrt(.57 * 3 / 4096) = .02 of ||x||, and
/// .0005 after 1600 draws; 5 of these are allowed beside 2 %.
#[test]
fn eden_that_says_so_has_no_bias_above_2_percent_on_the_worst_vectors_known() {
    for text in ["drive", "eden:bits=2", "eden:bits=3", "eden"] {
        assert!(codec(text).unbiased() && codec(text).keeps_product());
        for few in [&[1.0, 1.0, 3e-3][..], &[1.0, 1e-3], &[2.0, 1.0], &[5.0, 4.0]] {
            let found = bias(&codec(text), few, 100);
            assert!(found < 0.0225, "{text}, {few:?}: {found}");
        }
    }
}

#[test]
fn eden_in_short_blocks_or_with_one_rotation_is_biased_and_says_so() {
    for (text, few, least) in [
        ("drive:rotations=1", &[5.0, 4.0][..], 0.7),
        ("eden:bits=3,rotations=1", &[2.0, 1.0], 0.1),
        ("eden:bits=4,rotations=1", &[3.0, 2.0, 1.0], 0.05),
        ("drive:block=32", &[5.0, 4.0], 0.05),
        ("eden:bits=2,block=32", &[5.0, 4.0], 0.05),
        ("drive:block=1024", &[1.0, 1.0, 1e-3], 0.025),
    ] {
        let codec = codec(text);
        assert!(!codec.unbiased() && codec.keeps_product() && !codec.needs_memory(), "{text}");
        let found = bias(&codec, few, 40);
        assert!(found > least, "{text}: {found}");
    }
}
