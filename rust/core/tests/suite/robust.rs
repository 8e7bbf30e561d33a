//! Robust rules: equal to their definitions in f64, bounded whatever is sent, and refused where they mean nothing.

use declora_core::{Level, MixingMatrix, with_level};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::cases::cases;
use crate::naive::{self, Dense, bits, matrix, values};
use crate::robust_oracle as oracle;

/// The weights of a matrix: what it makes of the unit rows.
fn dense(matrix: &MixingMatrix) -> Dense {
    let n = matrix.local();
    let mut rows: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at % (n + 1) == 0))).collect();
    matrix.mix_in_place(&mut rows, 1.0).unwrap();
    rows.chunks(n).map(<[f64]>::to_vec).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn rows(x: &[f64], n: usize) -> Vec<Vec<f64>> {
    (0..n).map(|i| x[i * (x.len() / n)..][..x.len() / n].to_vec()).collect()
}

fn assert_close(have: &[f64], want: &[Vec<f64>], tolerance: f64) {
    let want: Vec<f64> = want.concat();
    assert_eq!(have.len(), want.len());
    for (at, (have, want)) in have.iter().zip(&want).enumerate() {
        assert!((have - want).abs() <= tolerance, "{at}: {have} instead of {want}");
    }
}

/// Few, whole numbers: many ties.
fn coarse(n: usize, seed: u64) -> Vec<f32> {
    values(n, seed).iter().map(|x| x.clamp(-2.0, 2.0).round()).collect()
}

fn least_degree(dense: &Dense) -> usize {
    (0..dense.len()).map(|i| oracle::neighbourhood(dense, i).len() - 1).min().unwrap()
}

/// A graph of `n` clients, z and x of some columns, tied or not, and a number of bad ones.
fn case() -> impl Strategy<Value = (Dense, Vec<f32>, Vec<f32>, u32)> {
    let columns = prop::sample::select(vec![0, 1, 2, 15, 16, 17, 63, 64, 65, 130]);
    (1_usize..12, 0_u64..1000, columns, 0_u32..3, any::<bool>()).prop_map(|(n, seed, columns, bad, tied)| {
        let draw = if tied { coarse } else { values };
        (naive::symmetric(n, seed), draw(n * columns, seed), draw(n * columns, seed + 1), bad)
    })
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn clipping_matches_its_definition((weights, z, x, _) in case(), radius in 0.0..20.0_f64) {
        let (z, x) = (wide(&z), wide(&x));
        let mut mixed = x.clone();
        matrix(&weights).clipped(&z, radius).unwrap().mix_into(&z, &mut mixed, 0.7).unwrap();
        let n = weights.len();
        let want = oracle::clipped(&weights, &rows(&z, n), &rows(&x, n), &vec![radius; n], 0.7);
        // Sums of at most 12 terms below 100, in two orders.
        assert_close(&mixed, &want, 1e-12);
    }

    #[test]
    fn clipping_beyond_the_farthest_matches_its_definition((weights, z, x, bad) in case()) {
        let n = weights.len();
        let bad = bad.min(least_degree(&weights) as u32 / 2);
        let (wide_z, wide_x) = (wide(&z), wide(&x));
        let radii: Vec<_> =
            (0..n).map(|i| oracle::radius(&weights, &rows(&wide_z, n), i, bad as usize)).collect();
        let want = oracle::clipped(&weights, &rows(&wide_z, n), &rows(&wide_x, n), &radii, 1.0);
        let matrix = matrix(&weights);
        let mut mixed = wide_x;
        matrix.clipped_beyond(&wide_z, &vec![bad; n]).unwrap().mix_into(&wide_z, &mut mixed, 1.0).unwrap();
        assert_close(&mixed, &want, 1e-12);
        let mut mixed = x.clone();
        matrix.clipped_beyond(&z, &vec![bad; n]).unwrap().mix_into(&z, &mut mixed, 1.0).unwrap();
        // The same in f32: at most 12 terms below 100, each rounded to 2^-24 of itself.
        assert_close(&wide(&mixed), &want, 12.0 * 100.0 * 2_f64.powi(-23));
    }

    #[test]
    fn rules_by_coordinate_match_their_definitions_bit_for_bit((weights, z, x, bad) in case()) {
        let n = weights.len();
        let bad = bad.min(least_degree(&weights) as u32 / 2);
        let matrix = matrix(&weights);
        for gamma in [1.0, 0.6] {
            let trimmed = oracle::by_coordinate(&weights, &z, &x, gamma, |k| bad as usize..k - bad as usize);
            let mut mixed = x.clone();
            matrix.trimmed_mean_into(&z, &mut mixed, &vec![bad; n], gamma).unwrap();
            prop_assert_eq!(bits(&mixed), bits(&trimmed));
            let median = oracle::by_coordinate(&weights, &z, &x, gamma, |k| (k - 1) / 2..k / 2 + 1);
            let mut mixed = x.clone();
            matrix.median_into(&z, &mut mixed, gamma).unwrap();
            prop_assert_eq!(bits(&mixed), bits(&median));
        }
        // Of values that nothing was lost of, the result is the rule's, exactly.
        let mut own = z.clone();
        matrix.median_into(&z, &mut own, 1.0).unwrap();
        for i in 0..n {
            let group = oracle::neighbourhood(&weights, i);
            let columns = z.len() / n;
            for c in (0..columns).filter(|_| group.len() % 2 == 1) {
                let below = group.iter().filter(|&&j| z[j * columns + c] < own[i * columns + c]).count();
                let above = group.iter().filter(|&&j| z[j * columns + c] > own[i * columns + c]).count();
                prop_assert!(2 * below < group.len() && 2 * above < group.len());
            }
        }
    }

    #[test]
    fn selections_match_their_definitions((weights, z, _, bad) in case(), average in 1_usize..6) {
        let n = weights.len();
        let (least, matrix) = (least_degree(&weights), matrix(&weights));
        let wide_z = rows(&wide(&z), n);
        let few = bad.min(least as u32 / 2);
        let have = dense(&matrix.nearest(&z, &vec![few; n]).unwrap());
        for i in 0..n {
            assert_close(&have[i], &[oracle::nearest(&weights, &wide_z, i, few as usize)], 1e-15);
        }
        if least + 1 >= 2 * bad as usize + 3 {
            for average in [Some(1), Some(average), None] {
                let have = dense(&matrix.krum(&z, &vec![bad; n], average).unwrap());
                for i in 0..n {
                    let want = oracle::krum(&weights, &wide_z, i, bad as usize, average);
                    assert_close(&have[i], &[want], 1e-15);
                }
            }
        }
    }

    #[test]
    fn one_neighbour_pulls_by_no_more_than_its_weight_times_the_radius(
        radius in 1e-6..10.0_f32, columns in 1_usize..200, power in -20_i32..=127, seed in 0_u64..100,
    ) {
        let weights = naive::symmetric(5, 3);
        let mut z = values(5 * columns, seed);
        // Client 4 sends anything up to 2^127, the largest that the codecs carry.
        z[4 * columns..].iter_mut().for_each(|z| *z = (*z).clamp(-1.0, 1.0) * 2_f32.powi(power));
        let mut without = weights.clone();
        for i in 0..4 {
            without[i][i] += without[i][4];
            without[i][4] = 0.0;
        }
        let mut results = [&weights, &without].map(|weights| {
            let mut x = z.clone();
            matrix(weights).clipped(&z, f64::from(radius)).unwrap().mix_into(&z, &mut x, 1.0).unwrap();
            rows(&wide(&x), 5)
        });
        let [with, without] = &mut results;
        for i in 0..4 {
            let pull = oracle::distance(&with[i], &without[i]);
            // Rounding of x in f32: values below 100, to 2^-24 of themselves.
            let rounding = 200.0 * 2_f64.powi(-24) * (columns as f64).sqrt();
            prop_assert!(pull <= weights[i][4] * f64::from(radius) * (1.0 + 1e-6) + rounding, "{pull}");
        }
    }
}

#[test]
fn without_a_radius_clipped_gossip_is_plain_gossip_bit_for_bit() {
    for columns in [0, 1, 65, 4097, 9001] {
        let (z, x) = (values(7 * columns, 1), values(7 * columns, 2));
        let matrix = matrix(&naive::symmetric(7, 5));
        let mut plain = x.clone();
        matrix.mix_into(&z, &mut plain, 0.9).unwrap();
        for weights in [matrix.clipped(&z, f64::INFINITY), matrix.clipped_beyond(&z, &[0; 7])] {
            let mut mixed = x.clone();
            weights.unwrap().mix_into(&z, &mut mixed, 0.9).unwrap();
            assert_eq!(bits(&mixed), bits(&plain));
        }
    }
}

/// V29: rounding of 16 values of about 1 in f64, against radii that differ.
#[test]
fn one_radius_keeps_the_mean_and_radii_of_their_own_do_not() {
    let (n, columns) = (16, 300);
    let (z, before) = (wide(&values(n * columns, 5)), wide(&values(n * columns, 6)));
    let mean = |x: &[f64], c| (0..n).map(|i| x[i * columns + c]).sum::<f64>() / n as f64;
    let matrix = matrix(&naive::symmetric(n, 4));
    let drift = |weights: MixingMatrix| {
        let mut x = before.clone();
        weights.mix_into(&z, &mut x, 1.0).unwrap();
        assert_ne!(x, before);
        (0..columns).map(|c| (mean(&x, c) - mean(&before, c)).abs()).fold(0.0, f64::max)
    };
    assert!(drift(matrix.clipped(&z, 7.0).unwrap()) < 1e-12);
    assert!(drift(matrix.clipped_beyond(&z, &[2; 16]).unwrap()) > 1e-3);
}

#[test]
fn equal_rows_stay_bit_for_bit_under_every_rule() {
    let row = values(777, 8);
    let x: Vec<f32> = std::iter::repeat_n(&row, 9).flatten().copied().collect();
    let weights = naive::symmetric(9, 7);
    let (matrix, bad) = (matrix(&weights), [1; 9]);
    assert!(least_degree(&weights) >= 4);
    let mut results = vec![x.clone(); 6];
    matrix.clipped(&x, 0.1).unwrap().mix_in_place(&mut results[0], 1.0).unwrap();
    matrix.clipped_beyond(&x, &bad).unwrap().mix_in_place(&mut results[1], 1.0).unwrap();
    matrix.nearest(&x, &bad).unwrap().mix_in_place(&mut results[2], 1.0).unwrap();
    matrix.krum(&x, &bad, None).unwrap().mix_in_place(&mut results[3], 1.0).unwrap();
    matrix.trimmed_mean_into(&x, &mut results[4], &bad, 1.0).unwrap();
    matrix.median_into(&x, &mut results[5], 1.0).unwrap();
    for result in results {
        assert_eq!(bits(&result), bits(&x));
    }
}

#[test]
fn no_result_depends_on_threads_or_levels() {
    let (n, columns) = (6, 10_001);
    let (z, x) = (values(n * columns, 1), values(n * columns, 2));
    let complete = vec![vec![1.0 / n as f64; n]; n];
    let everything = || {
        let (matrix, bad) = (matrix(&complete), vec![1; n]);
        let mut results = vec![x.clone(); 7];
        for (x, weights) in results.iter_mut().zip([
            matrix.clipped(&z, 30.0),
            matrix.clipped_beyond(&z, &bad),
            matrix.nearest(&z, &bad),
            matrix.krum(&z, &bad, None),
        ]) {
            weights.unwrap().mix_into(&z, x, 0.9).unwrap();
        }
        matrix.trimmed_mean_into(&z, &mut results[4], &bad, 0.9).unwrap();
        matrix.median_into(&z, &mut results[5], 0.9).unwrap();
        matrix.push_into(&z, &mut results[6], 0.9).unwrap();
        bits(&results.concat())
    };
    let expected = everything();
    for threads in [1, 2, 3] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(everything) == expected);
    }
    for &level in Level::available() {
        assert!(with_level(level, everything) == expected, "{}", level.name());
    }
}

/// The complete graph of 40: neighbourhoods above what the networks' own test covers, and one tile is not enough.
#[test]
fn large_neighbourhoods_are_sorted_right() {
    let (n, columns) = (40, 1500);
    let z = values(n * columns, 3);
    let weights = vec![vec![1.0 / n as f64; n]; n];
    let mut x = z.clone();
    matrix(&weights).trimmed_mean_into(&z, &mut x, &[13; 40], 1.0).unwrap();
    assert_eq!(bits(&x), bits(&oracle::by_coordinate(&weights, &z, &z, 1.0, |k| 13..k - 13)));
}

/// On the complete graph all neighbourhoods are one, but not all numbers of bad ones.
#[test]
fn krum_scores_a_neighbourhood_by_each_clients_own_number_of_bad_ones() {
    let n = 9;
    let weights = vec![vec![1.0 / n as f64; n]; n];
    for seed in 0..20 {
        let z = values(n * 7, seed);
        let bad: Vec<u32> = (0..n as u32).map(|i| (i + seed as u32) % 4).collect();
        let have = dense(&matrix(&weights).krum(&z, &bad, Some(1)).unwrap());
        for i in 0..n {
            let want = oracle::krum(&weights, &rows(&wide(&z), n), i, bad[i] as usize, Some(1));
            assert_close(&have[i], &[want], 1e-15);
        }
    }
}

/// Stored or not, an entry of 0 is no neighbour.
#[test]
fn a_stored_weight_of_zero_makes_no_neighbour() {
    let (indptr, indices) = ([0, 3, 6, 9], [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    let stored = [0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0];
    let matrix = MixingMatrix::new(&indptr, &indices, &stored).unwrap();
    let z = [1.0, 2.0, 1000.0_f64];
    let mut x = z;
    matrix.median_into(&z, &mut x, 1.0).unwrap();
    assert_eq!(x, [1.5, 1.5, 1000.0]);
    let unit = |weights: MixingMatrix| dense(&weights);
    let pair = vec![vec![0.5, 0.5, 0.0], vec![0.5, 0.5, 0.0], vec![0.0, 0.0, 1.0]];
    assert_eq!(unit(matrix.nearest(&z, &[0; 3]).unwrap()), pair);
    assert_eq!(unit(matrix.clipped(&z, 10.0).unwrap()), pair);
    assert!(matrix.nearest(&z, &[1; 3]).is_err(), "two values are too few for one bad");
}

/// From 2^96 on nothing is pulled; below, by the radius.
#[test]
fn a_neighbour_beyond_all_reach_pulls_nothing() {
    let half = MixingMatrix::new(&[0, 2, 4], &[0, 1, 0, 1], &[0.5; 4]).unwrap();
    let end = 2_f64.powi(96);
    for (distance, expected) in [(end.next_down(), 0.5 * 3.0 / end.next_down()), (end, 0.0), (2.0 * end, 0.0)]
    {
        let weights = half.clipped(&[0.0, distance], 3.0).unwrap();
        let mut x = [0.0, 0.0_f64];
        weights.mix_into(&[0.0, 1.0], &mut x, 1.0).unwrap();
        assert_eq!(x[0], expected);
    }
}

#[test]
fn a_client_alone_keeps_its_own_value() {
    let identity: Dense = (0..3).map(|i| (0..3).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let (z, matrix, none) = (values(3 * 70, 1), matrix(&identity), [0; 3]);
    for weights in [
        matrix.clipped(&z, 1.0),
        matrix.clipped_beyond(&z, &none),
        matrix.nearest(&z, &none),
        matrix.krum(&z, &none, Some(2)),
    ] {
        assert_eq!(dense(&weights.unwrap()), identity);
    }
    let mut x = z.clone();
    matrix.trimmed_mean_into(&z, &mut x, &none, 1.0).unwrap();
    matrix.median_into(&z, &mut x, 1.0).unwrap();
    matrix.push_into(&z, &mut x, 1.0).unwrap();
    assert_eq!(bits(&x), bits(&z));
}
