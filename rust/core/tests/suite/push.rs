//! Push-sum (V27): nothing is lost, and the mean is right where averaging by rows is not.

use declora_core::Error;
use proptest::prelude::*;

use crate::cases::cases;
use crate::naive::{self, Dense, matrix, values};

/// A strongly connected digraph: a cycle with random chords; each row splits the sender's mass evenly.
fn digraph(n: usize, seed: u64) -> Dense {
    (0..n)
        .map(|j| {
            let chord = |i: usize| naive::philox([j as u32, i as u32, 1, 0], seed)[0].is_multiple_of(4);
            let to: Vec<_> = (0..n).map(|i| i == j || i == (j + 1) % n || chord(i)).collect();
            let share = 1.0 / to.iter().filter(|&&to| to).count() as f64;
            to.iter().map(|&to| if to { share } else { 0.0 }).collect()
        })
        .collect()
}

/// Sum over rows of each column.
fn mass(x: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|c| x.iter().skip(c).step_by(columns).sum()).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn pushing_matches_its_definition_and_keeps_the_mass(
        n in 1_usize..10, seed in 0_u64..1000, columns in prop::sample::select(vec![0, 1, 63, 64, 65, 130]),
    ) {
        let split = digraph(n, seed);
        let (z, before) = (wide(&values(n * columns, seed)), wide(&values(n * columns, seed + 1)));
        let mut x = before.clone();
        matrix(&split).push_into(&z, &mut x, 0.8).unwrap();
        for i in 0..n {
            for c in 0..columns {
                let received: f64 =
                    (0..n).filter(|&j| j != i).map(|j| split[j][i] * z[j * columns + c]).sum();
                let sent = (1.0 - split[i][i]) * z[i * columns + c];
                let want = before[i * columns + c] + 0.8 * (received - sent);
                prop_assert!((x[i * columns + c] - want).abs() < 1e-13);
            }
        }
        for (after, before) in mass(&x, columns).iter().zip(mass(&before, columns)) {
            prop_assert!((after - before).abs() < 1e-12);
        }
    }
}

#[test]
fn x_over_w_is_the_mean_where_averaging_by_rows_is_wrong() {
    let (n, columns) = (7, 9);
    let split = digraph(n, 1);
    let start = wide(&values(n * columns, 3));
    let mean: Vec<f64> = mass(&start, columns).iter().map(|sum| sum / n as f64).collect();
    let (push, mut x, mut w) = (matrix(&split), start.clone(), vec![1.0; n]);
    // Each client averages what reaches it: rows, not columns, sum to 1.
    let pull: Dense = (0..n)
        .map(|i| {
            let reached: Vec<_> = (0..n).map(|j| split[j][i] > 0.0).collect();
            let share = 1.0 / reached.iter().filter(|&&reached| reached).count() as f64;
            reached.iter().map(|&reached| if reached { share } else { 0.0 }).collect()
        })
        .collect();
    let (pull, mut y) = (matrix(&pull), start);
    for _ in 0..300 {
        push.push_into(&x.clone(), &mut x, 1.0).unwrap();
        push.push_into(&w.clone(), &mut w, 1.0).unwrap();
        pull.mix_in_place(&mut y, 1.0).unwrap();
        assert!(w.iter().all(|&w| w > 0.0));
        assert!((w.iter().sum::<f64>() - n as f64).abs() < 1e-12);
    }
    assert!(w.iter().any(|w| (w - 1.0).abs() > 0.1), "the digraph is balanced: the test shows nothing");
    let error = |x: &[f64], w: &[f64]| {
        x.iter()
            .enumerate()
            .map(|(at, x)| (x / w[at / columns] - mean[at % columns]).abs())
            .fold(0.0, f64::max)
    };
    assert!(error(&x, &w) < 1e-12);
    assert!(error(&y, &[1.0; 7]) > 1e-2);
}

#[test]
fn where_columns_sum_to_1_too_it_is_linear_gossip_and_the_weight_stays() {
    let (n, columns) = (8, 70);
    let push = matrix(&naive::symmetric(n, 5));
    let (z, x) = (wide(&values(n * columns, 1)), wide(&values(n * columns, 2)));
    let (mut pushed, mut mixed, mut w): (_, _, Vec<f64>) = (x.clone(), x, vec![1.0; n]);
    push.push_into(&z, &mut pushed, 0.9).unwrap();
    push.mix_into(&z, &mut mixed, 0.9).unwrap();
    push.push_into(&vec![1.0; n], &mut w, 0.9).unwrap();
    assert!(pushed.iter().zip(&mixed).all(|(a, b)| (a - b).abs() < 1e-13));
    assert!(w.iter().all(|w| (w - 1.0).abs() < 1e-15));
}

#[test]
fn sizes_and_gamma_are_checked() {
    let push = matrix(&digraph(3, 0));
    assert!(matches!(push.push_into(&[0.0; 7], &mut [0.0; 7], 1.0), Err(Error::Length { field: "z", .. })));
    assert!(matches!(push.push_into(&[0.0; 6], &mut [0.0; 3], 1.0), Err(Error::Length { field: "x", .. })));
    let error = push.push_into(&[0.0_f32; 6], &mut [0.0; 6], f64::NAN).unwrap_err();
    assert!(error.to_string().starts_with("gamma="), "{error}");
}
