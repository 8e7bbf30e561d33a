//! Any floats: sent within the codec's promise, the same on every level, or refused by the first bad one.

use arbitrary::{Result, Unstructured};
use declora_core::{Codec, Error, Level, Stream, with_level};

use super::{bound, case, spec};
use crate::naive::bits;

pub fn round_trip(u: &mut Unstructured<'_>) -> Result<()> {
    let n = case::length(u, 2000)?;
    let codec = spec::codec(u, n)?;
    let stream = Stream::quantizer(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
    let x = case::floats(u, n)?;
    let sent: Vec<_> =
        Level::available().iter().map(|&level| with_level(level, || send(&codec, &x, &stream))).collect();
    // As text: an error holds the number that was refused, perhaps a NaN, which equals nothing.
    let same = |other: &Result<_, Error>| match (other, &sent[0]) {
        (Err(a), Err(b)) => a.to_string() == b.to_string(),
        (a, b) => a == b,
    };
    assert!(sent.iter().all(same), "{codec}: levels differ");
    match &sent[0] {
        Ok((payload, z)) => {
            let z: Vec<f32> = z.iter().map(|&z| f32::from_bits(z)).collect();
            assert!(z.iter().all(|z| z.is_finite()), "{codec}");
            keeps_its_promise(&codec, payload, &x, &z);
        }
        &Err(Error::Value { row: None, index, limit, value, .. }) => {
            assert_eq!(bits(&[value]), bits(&[x[index]]));
            assert!(x[..index].iter().all(|x| x.abs() < limit), "{codec}");
            assert!(x[index].is_nan() || x[index].abs() >= limit, "{codec}");
        }
        Err(error) => panic!("{codec}: {error}"),
    }
    Ok(())
}

/// The payload and the bits of what it decodes to.
fn send(codec: &Codec, x: &[f32], stream: &Stream) -> Result<(Vec<u8>, Vec<u32>), Error> {
    let mut payload = vec![0xAA; codec.payload_len(x.len()).unwrap()];
    let sent = codec.encode_into(x, &mut payload, stream);
    assert!(payload[sent.clone().unwrap_or(0)..].iter().all(|&byte| byte == 0), "{codec}");
    payload.truncate(sent?);
    let mut z = vec![f32::NAN; x.len()];
    codec.decode_into(&payload, &mut z).unwrap();
    Ok((payload, bits(&z)))
}

/// The codecs whose error has a bound in every draw.
fn keeps_its_promise(codec: &Codec, payload: &[u8], x: &[f32], z: &[f32]) {
    let wide = |x: &f32| f64::from(*x);
    let text = codec.to_string();
    let each = |holds: &dyn Fn(&f32, &f32) -> bool| {
        for (i, (x, z)) in x.iter().zip(z).enumerate() {
            assert!(holds(x, z), "{text}: {x:e} became {z:e} at {i}");
        }
    };
    // Half a unit in the last place, or half the least number.
    let near = |relative: i32, least: i32| {
        each(&|x, z| {
            (wide(x) - wide(z)).abs() <= (wide(x).abs() * 2_f64.powi(relative)).max(2_f64.powi(least))
        });
    };
    match codec.name() {
        "none" => assert_eq!(bits(x), bits(z)),
        "fp16" => near(-11, -25),
        "bf16" => near(-8, -134),
        // A power of two on either side, or nothing for less than the least normal number.
        "natural" => each(&|x, z| {
            let (x, z) = (wide(x), wide(z));
            let below = 2_f64.powf(x.abs().log2().floor()).max(f64::from(f32::MIN_POSITIVE));
            z == 0.0 && x.abs() < below || z * x.signum() == below || z * x.signum() == 2.0 * below
        }),
        "sign" => each(&|x, z| x.is_sign_negative() == z.is_sign_negative()),
        "topk" if text.contains("values=none") => {
            each(&|x, z| *z == 0.0 || bits(&[*x]) == bits(&[*z]));
        }
        name if name.starts_with('q') && !codec.variable_length() => within_a_step(codec, payload, x, z),
        _ => {}
    }
}

/// |z - x| is at most one step s / L of the block, and a block whose s is 0 had numbers below L 2^16 / 2^128.
fn within_a_step(codec: &Codec, payload: &[u8], x: &[f32], z: &[f32]) {
    let (block, levels) = (codec.block() as usize, f64::from(bound::levels(codec)));
    for (b, (x, z)) in x.chunks(block).zip(z.chunks(block)).enumerate() {
        let scale = f64::from(f32::from_le_bytes(payload[4 * b..][..4].try_into().unwrap()));
        let step = if scale == 0.0 { levels * 2_f64.powi(16 - 127) } else { scale / levels };
        for (x, z) in x.iter().zip(z) {
            let (x, z) = (f64::from(*x), f64::from(*z));
            // V is rounded to 2^-17 of a step, its product to 2^-24 of a number of at most L steps, the step and z too.
            let slack = 2_f64.powi(-16) * step + 4.0 * 2_f64.powi(-24) * scale + 2_f64.powi(-149) * levels;
            assert!((x - z).abs() <= step + slack, "{codec}: {x:e} became {z:e}, scale {scale:e}");
        }
    }
}
