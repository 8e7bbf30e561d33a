//! Robust rules and push-sum with any values, numbers of bad neighbours, radii and step sizes.

use arbitrary::{Result, Unstructured};
use declora_core::{Error, MixingMatrix};

use super::case;
use crate::naive::bits;

/// Mixes into the numbers that it is given, or refuses.
type Rule<'a> = dyn Fn(&mut [f32]) -> Result<(), Error> + 'a;

pub fn robust(u: &mut Unstructured<'_>) -> Result<()> {
    let (indptr, indices, weights) = case::weights(u)?;
    let matrix = MixingMatrix::new(&indptr, &indices, &weights).unwrap();
    let n = matrix.clients();
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
                assert_eq!(weights.clients(), n);
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
    Ok(())
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
    let columns = z.len() / matrix.clients();
    for (result, _) in results.iter().zip(&done).filter(|(_, done)| done.is_ok()) {
        for (at, y) in result.iter().enumerate() {
            let column = || z.iter().skip(at % columns).step_by(columns);
            assert!(column().any(|z| z <= y) && column().any(|z| z >= y));
        }
    }
}
