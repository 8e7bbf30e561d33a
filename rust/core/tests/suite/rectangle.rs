//! Mixing some clients of a graph: bit for bit what mixing all of them gives these.

use declora_core::frame::HEADER_LEN;
use declora_core::{Batch, Error, Mixed, MixingMatrix, Real, check_frames, encode_frames};
use proptest::prelude::*;

use crate::cases::cases;
use crate::naive::{self, Dense, bits, csr, picked, rectangle, values};

const CLIENTS: usize = 7;

/// Which clients are mixed: one, some in any order, all.
const LOCAL: [&[usize]; 5] = [&[0], &[6], &[5, 2], &[1, 3, 6, 0], &[6, 5, 4, 3, 2, 1, 0]];

/// All edges but those of i and 6 - i: at least six values at each client, enough for every rule.
fn dense() -> Dense {
    let mut rows = vec![vec![0.0; CLIENTS]; CLIENTS];
    for (i, row) in rows.iter_mut().enumerate() {
        for j in (0..CLIENTS).filter(|&j| j != i && i + j != CLIENTS - 1) {
            row[j] = (1 + (i * j) % 5) as f64 / 40.0;
        }
        row[i] = 1.0 - row.iter().sum::<f64>();
    }
    rows
}

/// Every rule: all that it makes of z and x, or what is wrong.
fn rules<T>(matrix: &MixingMatrix, z: &[T], x: &[T], bad: &[u32]) -> Vec<Result<Vec<T>, Error>>
where
    T: Mixed + Real + Into<f64> + PartialOrd,
{
    let mixed = |weights: Result<MixingMatrix, Error>| {
        let mut x = x.to_vec();
        weights.and_then(|weights| weights.mix_into(z, &mut x, 0.7)).map(|()| x)
    };
    let moved = |rule: &dyn Fn(&mut [T]) -> Result<(), Error>| {
        let mut x = x.to_vec();
        rule(&mut x).map(|()| x)
    };
    vec![
        mixed(Ok(matrix.clone())),
        mixed(matrix.clipped(z, 0.5)),
        mixed(matrix.clipped_beyond(z, bad)),
        mixed(matrix.nearest(z, bad)),
        mixed(matrix.krum(z, bad, None)),
        mixed(matrix.krum(z, bad, Some(1))),
        moved(&|x| matrix.trimmed_mean_into(z, x, bad, 0.7)),
        moved(&|x| matrix.median_into(z, x, 0.7)),
    ]
}

fn assert_rows_are_those_of_the_square<T>(
    dense: &Dense,
    local: &[usize],
    columns: usize,
    number: impl Fn(f32) -> T,
) where
    T: Mixed + Real + Into<f64> + PartialOrd + std::fmt::Debug,
{
    let some = |seed| values(CLIENTS * columns, seed).into_iter().map(&number).collect::<Vec<T>>();
    let (z, x, bad) = (some(1), some(2), [1, 0, 1, 0, 0, 1, 0]);
    let (csr, places) = (csr(dense), picked(&bad, 1, local));
    let all = rules(&rectangle(&csr, &[0, 1, 2, 3, 4, 5, 6]), &z, &x, &bad);
    let some = rules(&rectangle(&csr, local), &z, &picked(&x, columns, local), &places);
    for (rule, (all, some)) in all.iter().zip(&some).enumerate() {
        let Ok(all) = all else { continue };
        let (some, all) = (some.as_ref().unwrap(), picked(all, columns, local));
        assert!(some.iter().zip(&all).all(|(a, b)| same(*a, *b)), "rule {rule}, clients {local:?}");
    }
}

/// Whether two numbers are one, 0 and -0 being two.
fn same<T: Into<f64>>(a: T, b: T) -> bool {
    a.into().to_bits() == b.into().to_bits()
}

#[test]
fn every_rule_gives_some_rows_the_bits_that_it_gives_them_among_all() {
    for columns in [0, 1, 65, 5000] {
        for local in LOCAL {
            assert_rows_are_those_of_the_square(&dense(), local, columns, |x| x);
            assert_rows_are_those_of_the_square(&dense(), local, columns, f64::from);
        }
    }
    // All rules were compared: none of them refuses this graph.
    let (z, bad) = (values(CLIENTS * 3, 1), [1, 0, 1, 0, 0, 1, 0]);
    assert!(rules(&naive::matrix(&dense()), &z, &z, &bad).iter().all(Result::is_ok));
}

#[test]
fn frames_mix_some_rows_as_they_mix_all() {
    for columns in [0, 31, 4097] {
        for codec in &naive::codecs(columns) {
            let (rounds, senders) = ([0; CLIENTS], [0, 1, 2, 3, 4, 5, 6]);
            let (run_id, manifest) = ([0; 16], [0; 16]);
            let batch = Batch { codec, columns, run_id, manifest, rounds: &rounds, senders: &senders };
            let x = values(CLIENTS * columns, 4);
            let len = HEADER_LEN + codec.payload_len(columns).unwrap();
            let mut bytes = vec![0; CLIENTS * len];
            encode_frames(&batch, &x, &mut bytes, 3).unwrap();
            let frames = check_frames(&batch, &bytes).unwrap();
            let mut all = x.clone();
            naive::matrix(&dense()).mix_frames(&frames, &mut all, 0.8).unwrap();
            for local in LOCAL {
                let mut some = picked(&x, columns, local);
                rectangle(&csr(&dense()), local).mix_frames(&frames, &mut some, 0.8).unwrap();
                assert_eq!(bits(&some), bits(&picked(&all, columns, local)), "{codec}: clients {local:?}");
            }
        }
    }
}

#[test]
fn a_frame_that_no_row_reads_may_have_been_refused() {
    let (codec, columns) = (&naive::codec("q4"), 64);
    let (rounds, senders, ids) = ([0; 3], [0, 1, 2], [0; 16]);
    let batch = Batch { codec, columns, run_id: ids, manifest: ids, rounds: &rounds, senders: &senders };
    let x = values(3 * columns, 4);
    let mut bytes = vec![0; 3 * (HEADER_LEN + codec.payload_len(columns).unwrap())];
    encode_frames(&batch, &x, &mut bytes, 3).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let frames = check_frames(&batch, &bytes).unwrap();
    let pair = csr(&vec![vec![0.5, 0.5, 0.0], vec![0.5, 0.5, 0.0], vec![0.5, 0.0, 0.5]]);
    rectangle(&pair, &[1]).mix_frames(&frames, &mut x[columns..2 * columns].to_vec(), 1.0).unwrap();
    let error = rectangle(&pair, &[2]).mix_frames(&frames, &mut vec![0.0; columns], 1.0).unwrap_err();
    assert!(matches!(error, Error::Frame { row: Some(2), .. }), "{error}");
}

#[test]
fn push_sum_gives_some_rows_the_bits_that_it_gives_them_among_all() {
    let (columns, matrix) = (4100, naive::matrix(&dense()));
    let (z, x) = (values(CLIENTS * columns, 1), values(CLIENTS * columns, 2));
    let mut all = x.clone();
    matrix.push_into(&z, &mut all, 0.7).unwrap();
    for local in LOCAL {
        let own: Vec<i64> = local.iter().map(|&place| place as i64).collect();
        let mut some = picked(&x, columns, local);
        matrix.push_rows_into(&z, &mut some, &own, 0.7).unwrap();
        assert_eq!(bits(&some), bits(&picked(&all, columns, local)));
    }
    for (own, text) in
        [(&[7][..], "own 7 is not a client"), (&[-1], "own -1 is not"), (&[2, 2], "the place of row 0")]
    {
        let mut x = vec![1.0; own.len()];
        let error = matrix.push_rows_into(&z[..CLIENTS], &mut x, own, 1.0).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_needs_a_square_refuses_a_rectangle() {
    let x = values(CLIENTS * 2, 1);
    for (local, text) in [
        (&[0, 1][..], "weights row 2: there is none, but 7 clients are known"),
        (&[1, 0, 2, 3, 4, 5, 6], "weights row 0: it is client 1"),
        (&[0, 1, 2, 3, 4, 6, 5], "weights row 5: it is client 6"),
    ] {
        let matrix = rectangle(&csr(&dense()), local);
        assert_eq!((matrix.local(), matrix.known(), matrix.own()), (local.len(), CLIENTS, local));
        for error in [
            matrix.mix_in_place(&mut x.clone(), 1.0).unwrap_err(),
            matrix.push_into(&x, &mut x.clone(), 1.0).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with(text), "{error}");
            assert!(error.to_string().ends_with("needs a square matrix whose row i is client i."), "{error}");
        }
    }
}

#[test]
fn rectangles_that_name_no_clients_are_refused_with_their_row() {
    type Case = (&'static [i64], usize, &'static [i64], usize, &'static str);
    let cases: [Case; 8] = [
        (&[0, 2], 3, &[0], 0, "own has 1 items; it needs one per row, 2"),
        (&[0, 2], 3, &[0, 1, 2], 0, "own has 3 items"),
        (&[0, 2], 3, &[0, 3], 1, "own 3 is not a client; it must be from 0 to 2"),
        (&[0, 2], 3, &[-1, 0], 0, "own -1 is not a client"),
        (&[0, 2], 3, &[2, 2], 1, "own 2 is the place of row 0, too"),
        (&[0, 2], 2, &[0, 1], 1, "index 2 is not a client; it must be from 0 to 1"),
        (&[0, 0], 0, &[0, 0], 0, "index 0 is not a client; there are none"),
        (&[0, 2], usize::MAX, &[0, 1], 0, "2^32 clients are the most"),
    ];
    for (indices, known, own, row, text) in cases {
        let error = MixingMatrix::rectangle(&[0, 1, 2], indices, &[1.0, 1.0], known, own).unwrap_err();
        assert!(matches!(error, Error::Matrix { row: at, .. } if at == row), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// Nothing is as large as the number of known clients alone: only rows that are there take memory.
#[test]
fn as_many_clients_as_a_matrix_can_name_cost_nothing_but_their_entries() {
    let known = 1 << 32;
    let matrix = MixingMatrix::rectangle(&[0, 2], &[0, known - 1], &[0.5; 2], known as usize, &[7]).unwrap();
    assert_eq!((matrix.local(), matrix.known()), (1, 1 << 32));
    matrix.mix_into::<f32>(&[], &mut [], 1.0).unwrap();
    for weights in [
        matrix.clipped::<f32>(&[], 1.0),
        matrix.clipped_beyond::<f32>(&[], &[1]),
        matrix.nearest::<f32>(&[], &[1]),
        matrix.krum::<f32>(&[], &[0], None),
    ] {
        assert_eq!(weights.unwrap().known(), 1 << 32);
    }
    matrix.median_into::<f32>(&[], &mut [], 1.0).unwrap();
    matrix.trimmed_mean_into::<f32>(&[], &mut [], &[1], 1.0).unwrap();
    assert!(matrix.push_into::<f32>(&[], &mut [], 1.0).is_err());
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn any_rows_of_any_graph_are_mixed_as_among_all(
        seed: u64, columns in 0_usize..200, local in prop::sample::subsequence((0..CLIENTS).collect::<Vec<_>>(), 1..=CLIENTS),
    ) {
        let dense = naive::symmetric(CLIENTS, seed);
        assert_rows_are_those_of_the_square(&dense, &local, columns, |x| x);
        assert_rows_are_those_of_the_square(&dense, &local, columns, f64::from);
    }
}
