//! Payloads: any text names a codec or is refused, any bytes decode to finite numbers or are rejected untouched.

use arbitrary::{Result, Unstructured};
use declora_core::{Codec, Error, MAX_ELEMENTS};

use super::{bound, case, spec};
use crate::naive::bits;

const UNTOUCHED: f32 = -7.0;
const LONGEST: usize = 3000;

pub fn payload(u: &mut Unstructured<'_>) -> Result<()> {
    let text = text(u)?;
    let codec = match text.parse::<Codec>() {
        Ok(codec) => codec,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Ok(());
        }
    };
    let shapes = shapes(u)?;
    let Ok(codec) = codec.with_shapes(&shapes) else { return Ok(()) };
    if codec.name() != "powersgd" {
        assert_eq!(codec.to_string().parse(), Ok(codec.clone()));
    }
    sizes(u, &codec)?;
    let n = match codec.elements() {
        Some(n) => n,
        None => case::length(u, LONGEST)?,
    };
    if n > LONGEST {
        return Ok(());
    }
    let scheme = text.trim_end_matches("+rans").parse::<Codec>().unwrap().with_shapes(&shapes).unwrap();
    let before = case::floats(u, n)?;
    let plain = hostile(u, &scheme, n)?;
    if !codec.variable_length() {
        decodes(&codec, &plain, Some(&plain), &before);
    } else if u.arbitrary()? {
        // What the entropy stage wrote, damaged.
        decodes(&codec, &hostile(u, &codec, n)?, None, &before);
    } else {
        // Its form for what it cannot shorten, which may hold any bytes.
        decodes(&codec, &[&[0], &*plain].concat(), Some(&plain), &before);
    }
    Ok(())
}

/// Any text, that of a codec, or a name with some options that it may not have.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    const OPTIONS: [&str; 9] =
        ["block", "norm", "levels", "fraction", "values", "bits", "rotations", "rank", "iterations"];
    const VALUES: [&str; 8] = ["max", "none", "q8", "1", "2", "32", "0.3", "1e-9"];
    match u.int_in_range(0..=7)? {
        0 => Ok(u.arbitrary::<&str>()?.to_owned()),
        1 => {
            let (option, value) = (
                *u.choose(&OPTIONS)?,
                match u.int_in_range(0..=2)? {
                    0 => u.arbitrary::<u64>()?.to_string(),
                    1 => u.arbitrary::<f64>()?.to_string(),
                    _ => (*u.choose(&VALUES)?).to_owned(),
                },
            );
            Ok(spec::text(u)?.replace(':', &format!(":{option}={value},")))
        }
        _ => spec::text(u),
    }
}

/// A few shapes, small or of any size.
fn shapes(u: &mut Unstructured<'_>) -> Result<Vec<(usize, usize)>> {
    let mut shapes = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let mut side = || if u.ratio(1, 16)? { u.arbitrary() } else { u.int_in_range(0..=40) };
        shapes.push((side()?, side()?));
    }
    Ok(shapes)
}

/// What a codec says of messages of any length: no panic, and sizes that an address can hold.
fn sizes(u: &mut Unstructured<'_>, codec: &Codec) -> Result<()> {
    let n: usize = u.arbitrary()?;
    let bound = codec.error_bound(n);
    assert!(bound >= 0.0, "{codec}: {bound}");
    match codec.payload_len(n) {
        Ok(len) => assert!(len as u64 <= 5 * MAX_ELEMENTS && n as u64 <= MAX_ELEMENTS),
        Err(Error::Argument { field: "n", .. }) => assert!(n as u64 > MAX_ELEMENTS),
        Err(error) => assert!(matches!(error, Error::Shapes { .. }), "{error}"),
    }
    Ok(())
}

/// Any bytes, or good ones that were damaged.
fn hostile(u: &mut Unstructured<'_>, codec: &Codec, n: usize) -> Result<Vec<u8>> {
    let longest = codec.payload_len(n).unwrap() + 4;
    if u.ratio(1, 4)? {
        let len = if u.arbitrary()? { longest - 4 } else { u.int_in_range(0..=longest)? };
        return case::bytes(u, len);
    }
    let mut payload = case::encoded(codec, &case::floats(u, n)?);
    case::damage(u, &mut payload, longest)?;
    Ok(payload)
}

/// Decodes `bytes`, which hold the bytes `plain` of the scheme where that is known.
fn decodes(codec: &Codec, bytes: &[u8], plain: Option<&[u8]>, before: &[f32]) {
    let n = before.len();
    let mut z = vec![UNTOUCHED; n];
    let decoded = codec.decode_into(bytes, &mut z);
    assert_eq!(codec.check_payload(bytes, n), decoded);
    let mut sum = before.to_vec();
    assert_eq!(codec.decode_add_into(bytes, 0.5, &mut sum), decoded);
    let plain = plain.filter(|_| bytes.len() == codec.payload_len(n).unwrap());
    if let Some(expected) = plain.and_then(|plain| bound::decodes(codec, plain, n)) {
        assert_eq!(decoded.is_ok(), expected, "{codec}: {decoded:?}");
    }
    match decoded {
        Ok(()) => {
            plain.into_iter().for_each(|plain| bound::holds(codec, plain, &z));
            assert!(z.iter().all(|z| z.is_finite()), "{codec}");
            for ((sum, z), before) in sum.iter().zip(&z).zip(before) {
                let want = before + 0.5 * z;
                assert!(sum.to_bits() == want.to_bits() || sum.is_nan() && want.is_nan(), "{codec}");
            }
        }
        Err(error) => {
            assert!(matches!(error, Error::Frame { row: None, .. }), "{error}");
            assert!(z.iter().all(|&z| z == UNTOUCHED));
            assert_eq!(bits(&sum), bits(before));
        }
    }
}
