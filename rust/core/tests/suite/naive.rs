//! Oracles: obvious, slow, one element at a time, and written from the definitions alone.

use declora_core::{Codec, MixingMatrix, Norm, Stream};

/// The codec that a text names.
pub fn codec(text: &str) -> Codec {
    text.parse().unwrap()
}

/// Codecs of every scheme, stage and kind of value, with blocks of odd sizes.
pub const CODECS: [&str; 40] = [
    "none",
    "fp16",
    "bf16",
    "q2",
    "q3:block=96,norm=l2",
    "q4",
    "q5:norm=l2",
    "q6:block=32",
    "q7",
    "q8",
    "qsgd",
    "qsgd:levels=1,block=64",
    "qsgd:levels=127,norm=max",
    "natural",
    "sign",
    "sign:block=32",
    "topk",
    "topk:fraction=0.3,values=none",
    "topk:fraction=1,values=q3",
    "randk:values=none",
    "randk:fraction=0.4",
    "randk:fraction=0.001,values=bf16",
    "eden",
    "drive",
    "eden:bits=3,block=64",
    "eden:bits=2,rotations=1",
    "powersgd",
    "powersgd:rank=1,iterations=1,values=q8",
    "none+rans",
    "bf16+rans",
    "q2+rans",
    "q3+rans",
    "q4+rans",
    "q7+rans",
    "qsgd+rans",
    "natural+rans",
    "topk+rans",
    "randk+rans",
    "eden:bits=3+rans",
    "powersgd:values=q4+rans",
];

/// The codec that a text names, for messages of `n` numbers.
pub fn codec_for(text: &str, n: usize) -> Codec {
    codec(text).with_shapes(&[(n / 16, 12), (1, n - n / 16 * 12)]).unwrap()
}

/// All of [`CODECS`], for messages of `n` numbers.
pub fn codecs(n: usize) -> Vec<Codec> {
    CODECS.iter().map(|text| codec_for(text, n)).collect()
}

/// A reproducible test input: about normal, with exact zeros and a few far values.
pub fn values(n: usize, seed: u64) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let [a, b, c, d] = philox([i as u32, 99, 0, 0], seed);
            let sum = [a, b, c].iter().map(|&u| f64::from(u) / 2_f64.powi(32)).sum::<f64>();
            match d % 16 {
                0 => 0.0,
                1 => (20.0 * (sum - 1.5)) as f32,
                _ => (2.0 * (sum - 1.5)) as f32,
            }
        })
        .collect()
}

/// The payload of `x`, which can be encoded.
pub fn encoded(codec: &Codec, x: &[f32]) -> Vec<u8> {
    let mut payload = vec![0xAA; codec.payload_len(x.len()).unwrap()];
    let len = codec.encode_into(x, &mut payload, &Stream::quantizer(1, 2, 3)).unwrap();
    payload.truncate(len);
    payload
}

/// For comparisons that tell 0.0 from -0.0.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

pub fn philox(counter: [u32; 4], seed: u64) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let (mut low, mut high) = (seed as u32, (seed >> 32) as u32);
    for _ in 0..10 {
        let (p, q) = (0xD251_1F53_u64 * u64::from(a), 0xCD9E_8D57_u64 * u64::from(c));
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ low, q as u32, (p >> 32) as u32 ^ d ^ high, p as u32);
        low = low.wrapping_add(0x9E37_79B9);
        high = high.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

/// The 16-bit number of one element: chunk of 128, row of 16, lane; two rows share a word.
pub fn draw(element: usize, words: [u32; 3], seed: u64) -> u32 {
    let (chunk, row, lane) = (element / 128, element % 128 / 16, element % 16);
    let block = (chunk * 16 + lane) as u32;
    let word = philox([block, words[0], words[1], words[2]], seed)[row / 2];
    if row % 2 == 0 { word & 0xFFFF } else { word >> 16 }
}

pub struct Settings {
    pub bits: u32,
    pub block: usize,
    pub norm: Norm,
    pub seed: u64,
    pub round: u32,
    pub client: u32,
}

pub fn encode(x: &[f32], settings: &Settings) -> Vec<u8> {
    let levels = (1_i64 << (settings.bits - 1)) - 1;
    let mut payload = Vec::new();
    let mut stream = vec![false; x.len() * settings.bits as usize];
    for (b, values) in x.chunks(settings.block).enumerate() {
        let mut scale = match settings.norm {
            Norm::Max => values.iter().fold(0.0, |most: f32, x| most.max(x.abs())),
            Norm::L2 => l2(values),
        };
        let mut multiplier = levels as f32 * 65536.0 / scale;
        if !multiplier.is_finite() {
            (scale, multiplier) = (0.0, 0.0);
        }
        payload.extend(scale.to_le_bytes());
        for (i, &x) in values.iter().enumerate() {
            let element = b * settings.block + i;
            let limit = (levels * 65536) as f64;
            let fixed = f64::from(x * multiplier).round_ties_even().clamp(-limit, limit) as i64;
            let r = draw(element, [0, settings.client, settings.round], settings.seed);
            let code = (fixed + i64::from(r)).div_euclid(65536) + levels;
            for bit in 0..settings.bits {
                stream[element * settings.bits as usize + bit as usize] = code >> bit & 1 == 1;
            }
        }
    }
    payload.extend(
        stream.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit))),
    );
    payload
}

fn l2(values: &[f32]) -> f32 {
    let mut sums = [0.0_f64; 16];
    for (i, &x) in values.iter().enumerate() {
        sums[i % 16] += f64::from(x) * f64::from(x);
    }
    let pairs = |sums: Vec<f64>| {
        let (low, high) = sums.split_at(sums.len() / 2);
        low.iter().zip(high).map(|(a, b)| a + b).collect::<Vec<_>>()
    };
    (pairs(pairs(pairs(pairs(sums.to_vec()))))[0].sqrt() as f32).min(2_f32.powi(127).next_down())
}

pub fn decode(payload: &[u8], n: usize, settings: &Settings) -> Vec<f32> {
    let levels = (1_i32 << (settings.bits - 1)) - 1;
    let (scales, codes) = payload.split_at(n.div_ceil(settings.block) * 4);
    (0..n)
        .map(|i| {
            let at = i / settings.block * 4;
            let scale = f32::from_le_bytes(scales[at..at + 4].try_into().unwrap());
            let bits = (0..settings.bits).map(|bit| {
                let at = i * settings.bits as usize + bit as usize;
                i32::from(codes[at / 8] >> (at % 8) & 1) << bit
            });
            (bits.sum::<i32>() - levels) as f32 * (scale / levels as f32)
        })
        .collect()
}

/// A mixing matrix as dense rows.
pub type Dense = Vec<Vec<f64>>;

/// A symmetric doubly stochastic matrix: random edges of random weights below 1 / n, the rest on the diagonal.
pub fn symmetric(n: usize, seed: u64) -> Dense {
    let mut rows = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..i {
            let [a, b, ..] = philox([i as u32, j as u32, 0, 0], seed);
            if a % 3 > 0 {
                let weight = f64::from(b) / 2_f64.powi(32) / n as f64;
                rows[i][j] = weight;
                rows[j][i] = weight;
            }
        }
    }
    for i in 0..n {
        rows[i][i] = 1.0 - rows[i].iter().sum::<f64>();
    }
    rows
}

/// Row pointers, indices and weights of the entries that are not zero.
pub fn csr(dense: &Dense) -> (Vec<i64>, Vec<i64>, Vec<f64>) {
    let (mut indptr, mut indices, mut weights) = (vec![0], Vec::new(), Vec::new());
    for row in dense {
        for (j, &weight) in row.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            indices.push(j as i64);
            weights.push(weight);
        }
        indptr.push(indices.len() as i64);
    }
    (indptr, indices, weights)
}

/// Some rows of a matrix `[n, n]`, as the rectangle of the clients `rows` among all.
pub fn rectangle(
    (indptr, indices, weights): &(Vec<i64>, Vec<i64>, Vec<f64>),
    rows: &[usize],
) -> MixingMatrix {
    let (mut starts, mut places, mut shares) = (vec![0], Vec::new(), Vec::new());
    for &row in rows {
        let entries = indptr[row] as usize..indptr[row + 1] as usize;
        places.extend_from_slice(&indices[entries.clone()]);
        shares.extend_from_slice(&weights[entries]);
        starts.push(places.len() as i64);
    }
    let own: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    MixingMatrix::rectangle(&starts, &places, &shares, indptr.len() - 1, &own).unwrap()
}

/// The rows `rows` of a matrix of `columns` columns.
pub fn picked<T: Copy>(x: &[T], columns: usize, rows: &[usize]) -> Vec<T> {
    rows.iter().flat_map(|&row| x[row * columns..][..columns].to_vec()).collect()
}

/// The matrix of these rows.
pub fn matrix(dense: &Dense) -> MixingMatrix {
    let (indptr, indices, weights) = csr(dense);
    MixingMatrix::new(&indptr, &indices, &weights).unwrap()
}
