//! The stated bounds of errors are those of the literature, and some vectors reach them: no smaller one would do.

use declora_core::Codec;

use crate::naive::codec;
use crate::trials::{average, squares};

/// Mean of ||z - x||^2 / ||x||^2 over `rounds` draws.
fn error(codec: &Codec, x: &[f32], rounds: u32) -> f64 {
    average(codec, x, rounds).1 / squares(x)
}

fn assert_near(have: f64, want: f64, relative: f64) {
    assert!((have - want).abs() <= relative * want, "{have} instead of {want}");
}

/// min(d / 4L^2, sqrt(d) / L): Alistarh et al. 2017, lemma 3.1, with the variance of a fraction f, f (1 - f) <= 1/4.
#[test]
fn quantizers_state_the_lower_of_two_bounds() {
    for (text, levels) in
        [("q2", 1.0), ("q3:norm=l2", 3.0), ("q4", 7.0), ("q8", 127.0), ("qsgd:levels=5,block=256", 5.0)]
    {
        for n in [1, 31, 256, 100_000_usize] {
            let d = n.min(256) as f64;
            let want = f64::min(d / (4.0 * levels * levels), d.sqrt() / levels);
            assert_near(codec(text).error_bound(n), want, 1e-12);
        }
    }
}

/// 64 equal numbers of norm s are s / 8: half a step of s / 4, the worst there is. Each error is then exactly half a step,
/// whichever way it is rounded, but for the 2^-16 of the fixed point and f32.
#[test]
fn a_quantizer_reaches_its_bound_half_way_between_two_levels() {
    let codec = codec("qsgd:levels=4,block=64,norm=l2");
    assert_near(error(&codec, &[0.5; 64], 20), codec.error_bound(64), 1e-4);
}

#[test]
fn sign_reaches_its_bound_on_one_number_alone() {
    for (block, n) in [(256, 256), (256, 1000), (32, 32), (256, 7)] {
        let codec = codec(&format!("sign:block={block}"));
        let d = block.min(n) as f64;
        assert_near(codec.error_bound(n), 1.0 - 1.0 / d, 1e-12);
        let mut x = vec![0.0; n];
        x[0] = 3.0;
        assert_near(error(&codec, &x, 1), 1.0 - 1.0 / d, 1e-6);
    }
    assert_eq!(codec("sign").error_bound(0), 0.0);
}

#[test]
fn topk_reaches_its_bound_on_equal_numbers_and_where_only_the_kept_are_not_zero() {
    let exact = codec("topk:fraction=0.25,values=none");
    assert_near(exact.error_bound(1000), 0.75, 1e-12);
    assert_near(error(&exact, &[1.0; 1000], 1), 0.75, 1e-12);
    // The error of what is kept counts in full where it is above 1, else by its share.
    for (values, k) in [("q8", 250), ("q2", 250), ("q3", 250)] {
        let kept = codec(values).error_bound(k);
        let want = f64::max(0.75 + 0.25 * kept, kept);
        assert_near(codec(&format!("topk:fraction=0.25,values={values}")).error_bound(1000), want, 1e-12);
    }
    assert!(codec("q2").error_bound(250) > 1.0 && codec("q8").error_bound(250) < 1.0);
}

#[test]
fn randk_states_the_variance_of_its_longest_run() {
    for (n, longest) in [(1000, 4.0), (1001, 5.0), (3, 3.0)] {
        let exact = codec("randk:fraction=0.25,values=none");
        assert_near(exact.error_bound(n), longest - 1.0, 1e-12);
        let kept = codec("q4").error_bound(n.div_ceil(4).min(250));
        let want = longest * (1.0 + kept) - 1.0;
        if n == 1000 {
            assert_near(codec("randk:fraction=0.25,values=q4").error_bound(n), want, 1e-12);
        }
    }
}

/// Four equal numbers side by side become one or four, by the first signs: an error of 3, or of 0. Those of more bits are
/// the worst that were found.
#[test]
fn eden_with_one_rotation_reaches_its_bound_on_few_numbers() {
    let worst: [(u32, [f32; 4]); 4] = [
        (1, [1.0, 1.0, 1.0, 1.0]),
        (2, [1.0, 0.9993, 0.9996, 0.9277]),
        (3, [0.0, 0.819, 1.0, 0.9992]),
        (4, [0.7978, 1.0, 0.2026, 0.7981]),
    ];
    for (bits, few) in worst {
        // The length of a block does not matter, so there are many; with 10,240 of them 1.5 is found to .015.
        let mut x = vec![0.0; 1 << 16];
        x.chunks_mut(64).for_each(|x| x[..4].copy_from_slice(&few));
        let found = error(&codec(&format!("eden:bits={bits},block=64,rotations=1")), &x, 10);
        let stated = codec(&format!("eden:bits={bits},rotations=1")).error_bound(4096);
        assert!(0.9 * stated < found && found < 1.03 * stated, "{bits} bits: {found}, {stated}");
        assert!(found > 1.5 * codec(&format!("eden:bits={bits}")).error_bound(4096), "{bits} bits: {found}");
    }
}

/// In short blocks a few equal numbers are far from normal after two rotations, too.
#[test]
fn eden_states_more_of_short_blocks_and_needs_it() {
    for (bits, few, block) in [(1, 4, 32), (3, 2, 32), (1, 4, 64)] {
        let short = codec(&format!("eden:bits={bits},block={block}"));
        let mut x = vec![0.0; 1 << 16]; // each block has rotations of its own
        x.chunks_mut(block).for_each(|x| x[..few].fill(1.0));
        let (found, long) = (error(&short, &x, 5), codec(&format!("eden:bits={bits}")).error_bound(4096));
        assert!(found <= short.error_bound(x.len()), "{bits} bits, {block} numbers: {found}");
        assert!(found > 1.05 * long, "{bits} bits, {block} numbers: {found}");
    }
    // The last block of a message may be the short one.
    assert_eq!(codec("drive").error_bound(4096 + 20), codec("drive:block=32").error_bound(32));
}

/// Of the identity any 4 of 32 directions keep an eighth: all its singular values are equal.
#[test]
fn powersgd_reaches_its_bound_on_the_identity() {
    let of = |shapes: &[(usize, usize)]| codec("powersgd:rank=4").with_shapes(shapes).unwrap();
    let square = of(&[(32, 32)]);
    let identity: Vec<f32> = (0..1024).map(|at| if at % 33 == 0 { 1.0 } else { 0.0 }).collect();
    assert_near(square.error_bound(1024), 1.0 - 4.0 / 32.0, 1e-12);
    assert_near(error(&square, &identity, 3), 1.0 - 4.0 / 32.0, 1e-6);
    // The shorter side counts, and the matrix that loses most; one that is sent whole loses nothing.
    assert_near(of(&[(32, 32), (16, 500), (1, 9)]).error_bound(0), 1.0 - 4.0 / 32.0, 1e-12);
    assert_near(of(&[(16, 500), (500, 16)]).error_bound(0), 1.0 - 4.0 / 16.0, 1e-12);
    assert_eq!(of(&[(1, 9)]).error_bound(9), 0.0);
}

/// Half precision: relative 2^-11 of its normal numbers, from 2^-14 on, and 2^-25 below; bfloat16 2^-8 of f32's.
#[test]
fn halves_reach_their_bound_above_their_least_normal_number_only() {
    for (text, digits) in [("fp16", 10), ("bf16", 7)] {
        let codec = codec(text);
        let half_way = 1.0 + 2_f32.powi(-digits - 1); // rounds down, to even
        let bound = 2_f64.powi(-2 * digits - 2);
        assert_near(codec.error_bound(1), bound, 1e-12);
        assert_near(error(&codec, &[half_way, 100.0 * 0.0], 1), bound, 2_f64.powi(-digits));
    }
    let below = 2_f32.powi(-15) + 2_f32.powi(-25); // half a unit of 2^-24
    let found = error(&codec("fp16"), &[below], 1);
    assert_near(found.sqrt() * f64::from(below), 2_f64.powi(-25), 1e-9);
    assert!(found > 3.9 * codec("fp16").error_bound(1), "the relative bound does not hold there");
    for x in [6.1e-5, 1e-6, 2_f32.powi(-25), 1e-9] {
        let off = error(&codec("fp16"), &[x], 1).sqrt() * f64::from(x);
        assert!(off <= 2_f64.powi(-25), "{x:e} is off by {off:e}");
    }
}
