//! Some of the numbers, the others as zero: the largest ("topk"), or some at random ("randk").

use std::ops::Range;

use super::eden::read_nonce;
use super::elias_fano::EliasFano;
use super::{Coder, Ranges, Values};
use crate::error::{Error, Fault, Result};
use crate::kernels::first_beyond;
use crate::philox::{Stream, philox4x32_10};
use crate::scratch::Scratch;

const NONCE: usize = 8;
const MAGNITUDE: u32 = 0x7FFF_FFFF;

/// Which share of the numbers is kept, and how those are written.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    fraction: f64,
    values: Values,
}

impl Share {
    fn new(fraction: f64, values: Values) -> Result<Self> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::CodecSetting {
                field: "fraction",
                value: fraction.to_string(),
                allowed: "above 0 and at most 1 (0.05 is the default)",
            });
        }
        Ok(Self { fraction, values })
    }

    /// k: at least one of n >= 1.
    fn kept(&self, n: usize) -> usize {
        ((n as f64 * self.fraction).round() as usize).max(1).min(n)
    }
}

/// The k numbers of largest magnitude (of equal ones the first): contractive, ||z - x||^2 <= (1 - k/n) ||x||^2
/// (Stich et al. 2018, arXiv 1809.07599).
///
/// The payload is their indices ([`EliasFano`]), then the payload of the numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopK(Share);

impl TopK {
    pub(crate) fn new(fraction: f64, values: Values) -> Result<Self> {
        Share::new(fraction, values).map(Self)
    }

    pub(crate) fn fraction(&self) -> f64 {
        self.0.fraction
    }

    pub(crate) fn values(&self) -> Values {
        self.0.values
    }

    /// What is dropped, at most 1 - k/n of ||x||^2, and the error of what is kept.
    pub(crate) fn error_bound(&self, n: usize) -> f64 {
        let (k, n) = (self.0.kept(n), n.max(1));
        let share = k as f64 / n as f64;
        // The worse of the two ends: all n equal in magnitude, or only k not zero.
        (1.0 - share + share * self.values().error_bound(k)).max(self.values().error_bound(k))
    }

    fn indices(&self, n: usize) -> EliasFano {
        EliasFano::new(n, self.0.kept(n))
    }
}

impl Coder for TopK {
    fn payload_len(&self, n: usize) -> Result<u64> {
        Ok(self.indices(n).bytes() as u64 + self.values().coder().payload_len(self.0.kept(n))?)
    }

    fn limit(&self, n: usize) -> f32 {
        self.values().coder().limit(self.0.kept(n))
    }

    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        if let Some(at) = first_beyond(x, self.limit(x.len())) {
            return Err(at);
        }
        let k = self.0.kept(x.len());
        let (least, mut equal) = u32::scratch(x.len(), |magnitudes| least_kept(x, k, magnitudes));
        let chosen = x.iter().enumerate().filter(move |(_, value)| {
            let magnitude = value.to_bits() & MAGNITUDE;
            let counts = magnitude == least && equal > 0;
            equal -= usize::from(counts);
            magnitude > least || counts
        });
        let indices = self.indices(x.len());
        let (index_bytes, value_bytes) = out.split_at_mut(indices.bytes());
        f32::scratch(k, |values| {
            let mut slots = values.iter_mut();
            let written = chosen.map(|(index, &value)| {
                slots.next().into_iter().for_each(|slot| *slot = value);
                index
            });
            indices.write(written, index_bytes);
            self.values().coder().encode(values, value_bytes, stream)
        })
    }

    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        let (indices, values) = payload.split_at(self.indices(n).bytes());
        self.indices(n).check(indices)?;
        self.values().coder().check(values, self.0.kept(n))
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        let indices = self.indices(out.len());
        let (index_bytes, value_bytes) = payload.split_at(indices.bytes());
        out.fill(0.0);
        f32::scratch(self.0.kept(out.len()), |values| {
            self.values().coder().decode(value_bytes, values);
            for (index, &value) in indices.read(index_bytes).zip(&*values) {
                out.get_mut(index).into_iter().for_each(|out| *out = value); // no panic, should bytes change meanwhile
            }
        });
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        shifted(self.values().coder().compressible(self.0.kept(n)), self.indices(n).bytes())
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        None
    }
}

/// The least magnitude among the `k` largest, as bits, and how many of that magnitude belong to them.
fn least_kept(x: &[f32], k: usize, magnitudes: &mut [u32]) -> (u32, usize) {
    if k == 0 {
        return (u32::MAX, 0);
    }
    for (magnitude, value) in magnitudes.iter_mut().zip(x) {
        *magnitude = value.to_bits() & MAGNITUDE;
    }
    let (_, &mut least, above) = magnitudes.select_nth_unstable(x.len() - k);
    (least, 1 + above.iter().filter(|&&magnitude| magnitude == least).count())
}

/// One number of each of k runs of n / k neighbours, drawn at random and multiplied by the length of its run:
/// unbiased, with E||z - x||^2 = (n/k - 1) ||x||^2 (where k divides n), as if all k were drawn freely
/// (Stich et al. 2018, arXiv 1809.07599).
///
/// The payload is the nonce of the draws (u64), then the payload of the numbers: no indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RandK(Share);

impl RandK {
    pub(crate) fn new(fraction: f64, values: Values) -> Result<Self> {
        Share::new(fraction, values).map(Self)
    }

    pub(crate) fn fraction(&self) -> f64 {
        self.0.fraction
    }

    pub(crate) fn values(&self) -> Values {
        self.0.values
    }

    /// The longest run less 1, and the relative variance of the numbers' own codec on top.
    pub(crate) fn error_bound(&self, n: usize) -> f64 {
        let k = self.0.kept(n);
        let longest = n.checked_div(k).map_or(1, |_| n.div_ceil(k)) as f64;
        longest * (1.0 + self.values().error_bound(k)) - 1.0
    }

    /// For each of the `k` runs the index drawn in it, and the length of the run.
    fn draws(nonce: u64, n: usize, k: usize) -> impl Iterator<Item = (usize, usize)> {
        let stream = Stream::selection(nonce);
        let start = move |run: usize| (run as u128 * n as u128 / k as u128) as usize;
        (0..k).scan([0; 4], move |words, run| {
            if run % 4 == 0 {
                let [a, b, c] = stream.words;
                *words = philox4x32_10([(run / 4) as u32, a, b, c], stream.key);
            }
            let length = start(run + 1) - start(run);
            let draw = (u64::from(words[run % 4]) * length as u64) >> 32;
            Some((start(run) + draw as usize, length))
        })
    }
}

impl Coder for RandK {
    fn payload_len(&self, n: usize) -> Result<u64> {
        Ok(NONCE as u64 + self.values().coder().payload_len(self.0.kept(n))?)
    }

    /// Below the limit of the numbers' own codec, as they are multiplied by the length of a run.
    fn limit(&self, n: usize) -> f32 {
        let k = self.0.kept(n);
        let longest = n.checked_div(k).map_or(1, |_| n.div_ceil(k)) as f32;
        (self.values().coder().limit(k).min(f32::MAX) / longest).next_down()
    }

    fn encode(&self, x: &[f32], out: &mut [u8], stream: &Stream) -> Result<(), usize> {
        if let Some(at) = first_beyond(x, self.limit(x.len())) {
            return Err(at);
        }
        let (nonce, k) = (stream.nonce(), self.0.kept(x.len()));
        let (nonce_bytes, value_bytes) = out.split_at_mut(NONCE);
        nonce_bytes.copy_from_slice(&nonce.to_le_bytes());
        f32::scratch(k, |values| {
            for (value, (index, length)) in values.iter_mut().zip(Self::draws(nonce, x.len(), k)) {
                *value = x[index] * length as f32;
            }
            self.values().coder().encode(values, value_bytes, stream)
        })
    }

    fn check(&self, payload: &[u8], n: usize) -> Result<(), Fault> {
        self.values().coder().check(&payload[NONCE..], self.0.kept(n))
    }

    fn decode(&self, payload: &[u8], out: &mut [f32]) {
        let k = self.0.kept(out.len());
        out.fill(0.0);
        f32::scratch(k, |values| {
            self.values().coder().decode(&payload[NONCE..], values);
            for ((index, _), &value) in Self::draws(read_nonce(payload), out.len(), k).zip(&*values) {
                out[index] = value;
            }
        });
    }

    fn compressible(&self, n: usize) -> (Range<usize>, usize) {
        shifted(self.values().coder().compressible(self.0.kept(n)), NONCE)
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        None
    }
}

fn shifted((part, period): (Range<usize>, usize), by: usize) -> (Range<usize>, usize) {
    (part.start + by..part.end + by, period)
}
