//! The consensus distance of products.

use declora_core::{Error, Factors, product_distance};

use crate::naive::values;

/// Two layers of other shapes and a head, which does not count.
fn layers(rank: usize, (outputs, inputs): (usize, usize)) -> ([Factors; 2], usize) {
    let size = rank * (outputs + inputs);
    let layer = |start: usize, outputs: usize, inputs: usize, scaling: f64| Factors {
        a: start,
        b: start + rank * inputs,
        rank,
        outputs,
        inputs,
        scaling,
    };
    ([layer(0, outputs, inputs, 0.5), layer(size, inputs, outputs, 2.0)], 2 * size + 3)
}

/// The scaled product of one layer of one row, dense.
fn dense(layer: &Factors, row: &[f32]) -> Vec<f64> {
    let Factors { a, b, rank, outputs, inputs, scaling } = *layer;
    let number = |o: usize, i: usize| {
        let term = |p: usize| f64::from(row[b + o * rank + p]) * f64::from(row[a + p * inputs + i]);
        scaling * (0..rank).map(term).sum::<f64>()
    };
    (0..outputs * inputs).map(|at| number(at / inputs, at % inputs)).collect()
}

/// The distance, and the mean square of the products, from dense products.
fn naive(x: &[f32], rows: usize, layers: &[Factors]) -> (f64, f64) {
    let columns = x.len() / rows;
    let (mut distance, mut size) = (0.0, 0.0);
    for layer in layers {
        let products: Vec<_> = x.chunks(columns).map(|row| dense(layer, row)).collect();
        for at in 0..layer.outputs * layer.inputs {
            let mean = products.iter().map(|product| product[at]).sum::<f64>() / rows as f64;
            distance += products.iter().map(|product| (product[at] - mean).powi(2)).sum::<f64>();
            size += products.iter().map(|product| product[at].powi(2)).sum::<f64>();
        }
    }
    ((distance / rows as f64).sqrt(), size / rows as f64)
}

#[test]
fn the_distance_is_that_of_dense_products() {
    // Few rows, whose Gram matrices are the smaller ones, and so many that the sum of products is.
    for (rows, rank, shape) in
        [(1, 2, (5, 9)), (2, 1, (1, 1)), (3, 4, (17, 8)), (4, 8, (40, 70)), (60, 3, (20, 11))]
    {
        let (layers, columns) = layers(rank, shape);
        let x = values(rows * columns, 1);
        let (expected, size) = naive(&x, rows, &layers);
        let found = product_distance(&x, rows, &layers).unwrap();
        // Of random factors the distance is about as large as the products, and sums have some thousand terms.
        assert!((found.powi(2) - expected.powi(2)).abs() <= 1e4 * f64::EPSILON * size, "{found} {expected}");
    }
}

#[test]
fn a_small_distance_beside_large_products_is_not_lost() {
    let (rows, (layers, columns)) = (5, layers(4, (30, 20)));
    let common = values(columns, 2);
    let noise = values(rows * columns, 3);
    let x: Vec<f32> = noise.iter().enumerate().map(|(at, n)| common[at % columns] + 1e-4 * n).collect();
    let (expected, size) = naive(&x, rows, &layers);
    assert!(expected.powi(2) < 1e-6 * size);
    // The squares of deviations count, not those of the products; the oracle itself loses as much.
    assert!((product_distance(&x, rows, &layers).unwrap() / expected - 1.0).abs() < 1e-9);
}

#[test]
fn rows_whose_products_are_one_have_no_distance() {
    let (layers, columns) = layers(2, (6, 4));
    let first = values(columns, 1);
    // Twice B and half of A, which no rounding changes.
    let mut second = first.clone();
    for Factors { a, b, rank, outputs, inputs, .. } in layers {
        second[b..b + rank * outputs].iter_mut().for_each(|x| *x *= 2.0);
        second[a..a + rank * inputs].iter_mut().for_each(|x| *x *= 0.5);
    }
    let size = naive(&first, 1, &layers).1;
    let found = product_distance(&[first.clone(), second].concat(), 2, &layers).unwrap();
    assert!(found <= (1e3 * f64::EPSILON * size).sqrt(), "{found}");
    assert_eq!(product_distance(&first.repeat(3), 3, &layers).unwrap(), 0.0);
    assert_eq!(product_distance(&[], 0, &[]).unwrap(), 0.0);
    assert_eq!(product_distance(&first, 1, &[]).unwrap(), 0.0);
}

#[test]
fn layers_beyond_a_row_or_of_nothing_are_refused() {
    let layer = Factors { a: 0, b: 4, rank: 2, outputs: 3, inputs: 2, scaling: 1.0 };
    assert!(product_distance(&[0.0; 20], 2, &[layer]).is_ok());
    for bad in [
        Factors { b: 5, ..layer },
        Factors { a: usize::MAX, ..layer },
        Factors { rank: usize::MAX, ..layer },
        Factors { rank: 0, outputs: usize::MAX, ..layer },
        Factors { inputs: 0, ..layer },
    ] {
        let error = product_distance(&[0.0; 20], 2, &[bad]).unwrap_err();
        assert!(matches!(error, Error::Argument { field: "layers", .. }), "{error}");
    }
    assert!(matches!(product_distance(&[0.0; 7], 2, &[]), Err(Error::Length { field: "x", .. })));
    assert!(matches!(Factors::of_rows(&[1; 9], &[1.0; 2]), Err(Error::Length { field: "layers", .. })));
}
