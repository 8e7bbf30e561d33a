//! Any codec there is: every scheme, every option over its whole range, with and without the entropy stage.

use arbitrary::{Result, Unstructured};
use declora_core::Codec;

/// Any codec for messages of `n` numbers, which may be of any matrices that are `n` numbers together.
pub fn codec(u: &mut Unstructured<'_>, n: usize) -> Result<Codec> {
    let codec: Codec = text(u)?.parse().unwrap();
    Ok(codec.with_shapes(&shapes(u, n)?).unwrap())
}

/// The text of any codec.
pub fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let name = *u.choose(&Codec::NAMES)?;
    let mut options = Vec::new();
    match name {
        "none" | "fp16" | "bf16" | "natural" => {}
        "sign" => options.push(block(u)?),
        "topk" | "randk" => options.extend([fraction(u)?, values(u)?]),
        "eden" | "drive" => {
            options.push(format!("block={}", 32 << u.int_in_range(0..=11)?));
            options.push(format!("rotations={}", u.int_in_range(1..=2)?));
            if name == "eden" {
                options.push(format!("bits={}", u.int_in_range(1..=4)?));
            }
        }
        "powersgd" => {
            let rank = if u.ratio(1, 8)? { u.int_in_range(1..=1024)? } else { u.int_in_range(1..=5)? };
            options.extend([format!("rank={rank}"), values(u)?]);
            options.push(format!("iterations={}", u.int_in_range(1..=3)?));
        }
        _ => {
            options.extend([block(u)?, format!("norm={}", u.choose(&["max", "l2"])?)]);
            if name == "qsgd" {
                options.push(format!("levels={}", u.int_in_range(1..=127)?));
            }
        }
    }
    let stage = if name != "sign" && u.ratio(1, 3)? { "+rans" } else { "" };
    Ok(format!("{name}:{}{stage}", options.join(",")))
}

fn block(u: &mut Unstructured<'_>) -> Result<String> {
    let most = if u.ratio(1, 8)? { 1 << 15 } else { 8 };
    Ok(format!("block={}", 32 * u.int_in_range(1..=most)?))
}

fn fraction(u: &mut Unstructured<'_>) -> Result<String> {
    let share = f64::from(u.int_in_range(1..=1000)?) / 1000.0;
    Ok(format!("fraction={}", if u.ratio(1, 8)? { share * 1e-6 } else { share }))
}

fn values(u: &mut Unstructured<'_>) -> Result<String> {
    let kinds = ["none", "fp16", "bf16", "q2", "q3", "q4", "q5", "q6", "q7", "q8"];
    Ok(format!("values={}", u.choose(&kinds)?))
}

/// Matrices of `n` numbers together, some of them perhaps of none.
fn shapes(u: &mut Unstructured<'_>, n: usize) -> Result<Vec<(usize, usize)>> {
    let (mut shapes, mut left) = (Vec::new(), n);
    for _ in 0..u.int_in_range(0..=3)? {
        let columns = u.int_in_range(0..=40)?;
        let rows = u.int_in_range(0..=left.checked_div(columns).unwrap_or(40))?;
        shapes.push((rows, columns));
        left -= rows * columns;
    }
    shapes.push((1, left));
    Ok(shapes)
}
