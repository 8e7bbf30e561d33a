//! What a payload may decode to, read off its bytes one number at a time.

use declora_core::Codec;

/// Whether the payload of `n` numbers of a scheme, of the right length and without its entropy stage, is one that decodes;
/// nothing for the schemes that are not described here.
pub fn decodes(codec: &Codec, payload: &[u8], n: usize) -> Option<bool> {
    let scales = match codec.block() {
        0 => 0,
        block => 4 * n.div_ceil(block as usize),
    };
    // Bits of a float from 0 to below 2^127.
    let good = |scale: &[u8]| u32::from_le_bytes(scale.try_into().unwrap()) < 0x7F00_0000;
    let scales_are_good = payload[..scales].chunks(4).all(good);
    match codec.name() {
        "natural" => {
            Some(payload[..n].iter().all(|&exponent| exponent < 255) && unused_are_zero(&payload[n..], n))
        }
        "sign" => Some(scales_are_good && unused_are_zero(&payload[scales..], n)),
        name if name.starts_with('q') => {
            Some(scales_are_good && codes_are_good(&payload[scales..], n, levels(codec)))
        }
        _ => None,
    }
}

/// Whether codes of as few bits as hold 2 `levels` are what an encoder can have written of `n` numbers.
fn codes_are_good(bytes: &[u8], n: usize, levels: u32) -> bool {
    let bits = (2 * levels).ilog2() as usize + 1;
    let code = |i: usize| (0..bits).map(|b| bit(bytes, i * bits + b) << b).sum::<u32>();
    (0..n).all(|i| code(i) <= 2 * levels) && unused_are_zero(bytes, n * bits)
}

fn unused_are_zero(bytes: &[u8], used: usize) -> bool {
    (used..8 * bytes.len()).all(|at| bit(bytes, at) == 0)
}

fn bit(bytes: &[u8], at: usize) -> u32 {
    u32::from(bytes[at / 8] >> (at % 8) & 1)
}

/// Asserts that `z` is within the scales of the payload that it was decoded from, which is without its entropy stage.
pub fn holds(codec: &Codec, payload: &[u8], z: &[f32]) {
    let text = codec.to_string();
    let block = codec.block() as usize;
    let scale = |at: usize| f32::from_le_bytes(payload[at..at + 4].try_into().unwrap());
    let within = |b: usize, z: &[f32], most: f32| {
        assert!(z.iter().all(|z| z.abs() <= most), "{text}: block {b} has a number above {most:e}");
    };
    match codec.name() {
        "none" | "fp16" | "bf16" | "topk" | "randk" | "powersgd" => {} // no scale but those of their values
        "natural" => within(0, z, 2_f32.powi(127)),
        "sign" => z.chunks(block).enumerate().for_each(|(b, z)| within(b, z, scale(4 * b))),
        "eden" => {
            for (b, z) in z.chunks(block).enumerate() {
                let size = if z.len() == block { block } else { z.len().next_power_of_two().max(32) };
                let length = z.iter().map(|&z| f64::from(z) * f64::from(z)).sum::<f64>().sqrt();
                // The centroids of four bits end at 2.7326; a rotation keeps the length, but for rounding.
                assert!(
                    length <= 2.74 * f64::from(scale(8 + 4 * b)) * (size as f64).sqrt(),
                    "{text}: block {b}"
                );
            }
        }
        _ => {
            for (b, z) in z.chunks(block).enumerate() {
                // L (s / L) is s but for the rounding of both.
                within(b, z, scale(4 * b) * (1.0 + 2.0 * f32::EPSILON));
                assert!(
                    z.iter().all(|z| *z == 0.0 || z.is_normal()),
                    "{text}: block {b} has a subnormal number"
                );
            }
        }
    }
}

/// L of "q2" to "q8" and "qsgd".
pub fn levels(codec: &Codec) -> u32 {
    match codec.name() {
        "qsgd" => codec.to_string().split(['=', ',']).nth(1).unwrap().parse().unwrap(),
        name => (1 << (name[1..].parse::<u32>().unwrap() - 1)) - 1,
    }
}
