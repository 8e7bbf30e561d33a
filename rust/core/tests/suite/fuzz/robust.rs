//! Robust rules and push-sum with any values, numbers of bad neighbours, radii and step sizes.

use arbitrary::{Result, Unstructured};
use declora_core::{Error, MixingMatrix};

use super::case;
use crate::naive::{bits, picked, rectangle};

/// Mixes into the numbers that it is given, or refuses.
type Rule<'a> = dyn Fn(&mut [f32]) -> Result<(), Error> + 'a;

pub fn robust(u: &mut Unstructured<'_>) -> Result<()> {
    let csr = case::weights(u)?;
    let matrix = MixingMatrix::new(&csr.0, &csr.1, &csr.2).unwrap();
    let n = matrix.local();
    let columns = u.int_in_range(0..=140)?;
    let z = case::floats(u, n * columns)?;
    let x = case::floats(u, n * columns)?;
    let bad: Vec<u32> = (0..n)
        .map(|_| if u.ratio(1, 16)? { u.arbitrary() } else { u.int_in_range(0..=3) })
        .collect::<Result<_>>()?;
    let gamma = if u.ratio(1, 8)? { u.arbitrary()? } else { 1.0 };
    let (radius, average): (f64, Option<usize>) = (u.arbitrary()?, u.arbitrary()?);

    let weights = [
        matrix.clipped(&z, radius),
        matrix.clipped_beyond(&z, &bad),
        matrix.nearest(&z, &bad),
        matrix.krum(&z, &bad, average),
    ];
    for weights in weights {
        match weights {
            Ok(weights) => {
                assert_eq!((weights.local(), weights.known()), (n, n));
                assert!(z.iter().all(|z| z.is_finite()));
                weights.mix_into(&z, &mut x.clone(), 1.0).unwrap();
            }
            Err(error) => refused(&error, &z),
        }
    }
    let moved: [&Rule<'_>; 3] =
        [&|x| matrix.trimmed_mean_into(&z, x, &bad, gamma), &|x| matrix.median_into(&z, x, gamma), &|x| {
            matrix.push_into(&z, x, gamma)
        }];
    for rule in moved {
        let mut y = x.clone();
        if let Err(error) = rule(&mut y) {
            refused(&error, &z);
            assert_eq!(bits(&x), bits(&y));
        }
    }
    stays_among_its_neighbours(&matrix, &z, &bad);
    let mut local: Vec<usize> = Vec::new();
    for i in 0..n {
        if u.arbitrary()? {
            local.insert(u.int_in_range(0..=local.len())?, i);
        }
    }
    if !local.is_empty() {
        some_rows_are_as_among_all((&matrix, &rectangle(&csr, &local)), (&z, &x), &bad, gamma);
    }
    Ok(())
}

/// What a rule gives all rows, it gives some of them, to the bit.
fn some_rows_are_as_among_all(
    (all, some): (&MixingMatrix, &MixingMatrix),
    (z, x): (&[f32], &[f32]),
    bad: &[u32],
    gamma: f64,
) {
    let columns = z.len() / all.known();
    let (here, few) = (picked(x, columns, some.own()), picked(bad, 1, some.own()));
    let compare = |all: Result<Vec<f32>, Error>, some: Result<Vec<f32>, Error>, own: &[usize]| {
        let Ok(all) = all else { return };
        let (all, some) = (picked(&all, columns, own), some.unwrap());
        // Bits of a NaN may differ: x is anything.
        assert!(all.iter().zip(&some).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
    };
    type Rule<'a> = &'a dyn Fn(&MixingMatrix, &mut [f32], &[u32]) -> Result<(), Error>;
    let rules: [Rule<'_>; 7] = [
        &|matrix, x, _| matrix.mix_into(z, x, gamma),
        &|matrix, x, _| matrix.clipped(z, 1.0)?.mix_into(z, x, gamma),
        &|matrix, x, bad| matrix.clipped_beyond(z, bad)?.mix_into(z, x, gamma),
        &|matrix, x, bad| matrix.nearest(z, bad)?.mix_into(z, x, gamma),
        &|matrix, x, bad| matrix.krum(z, bad, None)?.mix_into(z, x, gamma),
        &|matrix, x, bad| matrix.trimmed_mean_into(z, x, bad, gamma),
        &|matrix, x, _| matrix.median_into(z, x, gamma),
    ];
    for rule in rules {
        let run = |matrix, x: &[f32], bad: &[u32]| {
            let mut x = x.to_vec();
            rule(matrix, &mut x, bad).map(|()| x)
        };
        compare(run(all, x, bad), run(some, &here, &few), some.own());
    }
    let (mut pushed, mut few) = (x.to_vec(), here);
    let own: Vec<i64> = some.own().iter().map(|&place| place as i64).collect();
    let (pushed_all, pushed_some) =
        (all.push_into(z, &mut pushed, gamma), all.push_rows_into(z, &mut few, &own, gamma));
    compare(pushed_all.map(|()| pushed), pushed_some.map(|()| few), some.own());
}

fn refused(error: &Error, z: &[f32]) {
    match error {
        Error::Argument { field: "z", .. } => assert!(z.iter().any(|z| !z.is_finite())),
        Error::Argument { field, .. } => assert!(["radius", "average", "gamma"].contains(field), "{error}"),
        Error::Matrix { what, .. } => assert!(what.contains("too few"), "{error}"),
        other => panic!("{other}"),
    }
}

/// A mean of some of the values is between the least and the largest of them, whatever was sent.
fn stays_among_its_neighbours(matrix: &MixingMatrix, z: &[f32], bad: &[u32]) {
    let mut results = [z.to_vec(), z.to_vec()];
    let [trimmed, median] = &mut results;
    let done = [matrix.trimmed_mean_into(z, trimmed, bad, 1.0), matrix.median_into(z, median, 1.0)];
    let columns = z.len() / matrix.known();
    for (result, _) in results.iter().zip(&done).filter(|(_, done)| done.is_ok()) {
        for (at, y) in result.iter().enumerate() {
            let column = || z.iter().skip(at % columns).step_by(columns);
            assert!(column().any(|z| z <= y) && column().any(|z| z >= y));
        }
    }
}
