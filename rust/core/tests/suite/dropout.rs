//! Dropout masks.

use declora_core::{Error, MAX_SAMPLES, dropout_mask_into};

use crate::naive;

#[test]
fn masks_match_naive() {
    let (clients, samples) = ([0, 5, u32::MAX], [0, 70_000, MAX_SAMPLES - 1]);
    for n in [1, 15, 16, 17, 127, 128, 129, 1000] {
        for rate in [0.0, 0.1, 0.5, 0.999] {
            let mut out = vec![-7.0; 3 * n];
            dropout_mask_into(&mut out, rate, (0xABCD_0000_1234, 9), &clients, &samples).unwrap();
            for (row, (client, sample)) in clients.into_iter().zip(samples).enumerate() {
                for i in 0..n {
                    let r = naive::draw(i, [1 | sample << 8, client, 9], 0xABCD_0000_1234);
                    let dropped = f64::from(r) < (rate * 65536.0).round();
                    let expected = if dropped { 0.0 } else { (1.0 / (1.0 - rate)) as f32 };
                    assert_eq!(out[row * n + i], expected);
                }
            }
        }
    }
}

/// n = 2^20 entries: the share of zeros has a standard deviation of sqrt(p (1 - p) / n) <= 2^-11; 4 of these.
#[test]
fn the_share_of_zeros_is_the_rate() {
    let mut out = vec![0.0; 1 << 20];
    for rate in [0.05, 0.3, 0.5, 0.9] {
        dropout_mask_into(&mut out, rate, (3, 1), &[7], &[0]).unwrap();
        let zeros = out.iter().filter(|&&x| x == 0.0).count() as f64 / out.len() as f64;
        assert!((zeros - rate).abs() < 4.0 * (rate * (1.0 - rate)).sqrt() / 1024.0, "{rate}: {zeros}");
    }
}

#[test]
fn a_row_depends_on_its_own_client_and_sample_only() {
    let mut together = vec![0.0; 4 * 100];
    dropout_mask_into(&mut together, 0.5, (1, 2), &[3, 3, 4, 3], &[0, 1, 0, 0]).unwrap();
    let mut alone = vec![0.0; 100];
    dropout_mask_into(&mut alone, 0.5, (1, 2), &[4], &[0]).unwrap();
    assert_eq!(together[200..300], alone);
    assert_eq!(together[..100], together[300..]);
    assert_ne!(together[..100], together[100..200]);
    for draws in [(2, 2), (1, 3)] {
        let mut other = vec![0.0; 100];
        dropout_mask_into(&mut other, 0.5, draws, &[4], &[0]).unwrap();
        assert_ne!(other, alone);
    }
}

#[test]
fn arguments_out_of_range_are_refused() {
    let mut out = vec![0.0; 8];
    for rate in [-0.1, -1e-9, 1.0, 0.999_999, 2.0, f64::NAN] {
        let error = dropout_mask_into(&mut out, rate, (0, 0), &[0], &[0]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("rate={rate}")), "{error}");
    }
    let error = dropout_mask_into(&mut out, 0.5, (0, 0), &[0], &[MAX_SAMPLES]).unwrap_err();
    assert!(error.to_string().starts_with("samples=16777216"), "{error}");
    let error = dropout_mask_into(&mut out, 0.5, (0, 0), &[0, 1], &[0]).unwrap_err();
    assert_eq!(error, Error::Length { field: "samples", have: 1, need: 2 });
    let error = dropout_mask_into(&mut out, 0.5, (0, 0), &[0, 1, 2], &[0; 3]).unwrap_err();
    assert!(matches!(error, Error::Length { field: "out", have: 8, .. }));
    dropout_mask_into(&mut [], 0.5, (0, 0), &[], &[]).unwrap();
}
