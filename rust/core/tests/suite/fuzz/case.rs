//! Parts of cases: numbers, bytes, messages, matrices.

use arbitrary::{Result, Unstructured};
use declora_core::{Codec, Stream};

use crate::naive::{Dense, csr};

/// A number of numbers, to `most`, but small ones mostly: so that there are bytes for all of them.
pub fn length(u: &mut Unstructured<'_>, most: usize) -> Result<usize> {
    let most = if u.ratio(1, 8)? { most } else { most.min(200) };
    u.int_in_range(0..=most)
}

/// `n` bytes, zeros after the end of the input.
pub fn bytes(u: &mut Unstructured<'_>, n: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; n];
    u.fill_buffer(&mut bytes)?;
    Ok(bytes)
}

/// `n` floats: any bits, any finite ones, or small multiples of one power of two.
pub fn floats(u: &mut Unstructured<'_>, n: usize) -> Result<Vec<f32>> {
    let kind = u.int_in_range(0..=2)?;
    let unit = 2_f32.powi(u.int_in_range(-149..=120)?);
    let words = bytes(u, 4 * n)?;
    let float = |word: &[u8; 4]| match f32::from_le_bytes(*word) {
        x if kind == 0 => x,
        x if kind == 1 && x.is_finite() => x,
        _ => f32::from(word[3] as i8) * unit,
    };
    Ok(words.as_chunks().0.iter().map(float).collect())
}

/// Bits of floats at which something ends: zeros, subnormal numbers, the limits of the schemes, infinity, NaN.
const ENDS: [u32; 18] = [
    0,
    0x8000_0000,
    1,
    0x007F_FFFF,
    0x0080_0000,
    0x1780_0000,
    0x1C80_0000,
    0x2F80_0000,
    0x3F80_0000,
    0x4000_0000,
    0x6780_0000,
    0x6D80_0000,
    0x7EFF_FFFF,
    0x7F00_0000,
    0x7F00_0001,
    0x7F7F_FFFF,
    0x7F80_0000,
    0x7FC0_0000,
];

/// Changes some bytes, perhaps whole floats or all to the end, and perhaps the length, to at most `longest`.
pub fn damage(u: &mut Unstructured<'_>, message: &mut Vec<u8>, longest: usize) -> Result<()> {
    for _ in 0..u.int_in_range(0..=6)? {
        let at = u.arbitrary::<usize>()?.checked_rem(message.len()).unwrap_or(0);
        let rest = &mut message[at..];
        match u.int_in_range(0..=5)? {
            0 => rest.fill(u.arbitrary()?),
            1 | 2 => {
                // Where a float begins, mostly: all of a message begin at a multiple of four, or of eight after its header.
                let float =
                    u.choose(&ENDS)?.wrapping_add(u.int_in_range(0..=2)?).wrapping_sub(1).to_le_bytes();
                let rest = message.get_mut(at / 4 * 4..).unwrap_or(&mut []);
                rest.iter_mut().zip(float).for_each(|(old, new)| *old = new);
            }
            _ => {
                let byte = u.arbitrary()?;
                rest.first_mut().into_iter().for_each(|old| *old = byte);
            }
        }
    }
    if u.ratio(1, 4)? {
        message.resize(u.int_in_range(0..=longest)?, u.arbitrary()?);
    }
    Ok(())
}

/// The payload of `x`, or of zeros where it cannot be encoded.
pub fn encoded(codec: &Codec, x: &[f32]) -> Vec<u8> {
    let mut payload = vec![0; codec.payload_len(x.len()).unwrap()];
    let stream = Stream::quantizer(1, 2, 3);
    let len = codec
        .encode_into(x, &mut payload, &stream)
        .or_else(|_| codec.encode_into(&vec![0.0; x.len()], &mut payload, &stream))
        .unwrap();
    payload.truncate(len);
    payload
}

/// A symmetric matrix of 1 to 12 clients, with zeros stored here and there, in compressed sparse rows.
pub fn weights(u: &mut Unstructured<'_>) -> Result<(Vec<i64>, Vec<i64>, Vec<f64>)> {
    let n = u.int_in_range(1..=12)?;
    let mut dense: Dense = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..i {
            let weight = match u.arbitrary::<u8>()? {
                byte @ 0..128 => f64::from(byte) / 128.0 / n as f64,
                _ => 0.0,
            };
            (dense[i][j], dense[j][i]) = (weight, weight);
        }
    }
    for (i, row) in dense.iter_mut().enumerate() {
        row[i] = 1.0 - row.iter().sum::<f64>();
    }
    Ok(csr(&dense))
}
