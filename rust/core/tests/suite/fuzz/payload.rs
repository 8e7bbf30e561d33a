//! Payloads: any text names a codec or is refused, any bytes decode to finite numbers or are rejected untouched.

use arbitrary::{Result, Unstructured};
use declora_core::{Codec, Error, MAX_ELEMENTS};

use super::case;
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
    let Ok(codec) = codec.with_shapes(&shapes(u)?) else { return Ok(()) };
    if codec.name() != "powersgd" {
        assert_eq!(codec.to_string().parse(), Ok(codec.clone()));
    }
    sizes(u, &codec)?;
    let n = match codec.elements() {
        Some(n) => n,
        None => u.int_in_range(0..=LONGEST)?,
    };
    if n > LONGEST {
        return Ok(());
    }
    let bytes = hostile(u, &codec, n)?;
    let out = case::floats(u, n)?;
    decodes(&codec, &bytes, &out);
    Ok(())
}

/// Any text, or a name with options that it may have.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    const OPTIONS: [&str; 9] =
        ["block", "norm", "levels", "fraction", "values", "bits", "rotations", "rank", "iterations"];
    const VALUES: [&str; 16] = [
        "max", "l2", "none", "fp16", "bf16", "q2", "q3", "q8", "1", "2", "4", "32", "64", "96", "0.3", "1e-9",
    ];
    if u.ratio(1, 8)? {
        return Ok(u.arbitrary::<&str>()?.to_owned());
    }
    let mut text = (*u.choose(&Codec::NAMES)?).to_owned();
    for option in 0..u.int_in_range(0..=3)? {
        text.push(if option == 0 { ':' } else { ',' });
        text.push_str(u.choose(&OPTIONS)?);
        text.push('=');
        match u.int_in_range(0..=9)? {
            0 => text.push_str(&u.arbitrary::<u64>()?.to_string()),
            1 => text.push_str(&u.arbitrary::<f64>()?.to_string()),
            _ => text.push_str(u.choose(&VALUES)?),
        }
    }
    if u.ratio(1, 3)? {
        text.push_str("+rans");
    }
    Ok(text)
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

fn decodes(codec: &Codec, bytes: &[u8], before: &[f32]) {
    let n = before.len();
    let mut z = vec![UNTOUCHED; n];
    let decoded = codec.decode_into(bytes, &mut z);
    assert_eq!(codec.check_payload(bytes, n), decoded);
    let mut sum = before.to_vec();
    assert_eq!(codec.decode_add_into(bytes, 0.5, &mut sum), decoded);
    match decoded {
        Ok(()) => {
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
