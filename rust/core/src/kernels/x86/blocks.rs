//! What the quantizers of all levels share: blocks against chunks, and the end of a message.

use crate::kernels::GROUP;
use crate::kernels::portable::read_f32;
use crate::philox::CHUNK;
use crate::quantizer::Quantizer;

/// The multipliers of the groups of one span, in order.
pub(super) struct Multipliers<'a> {
    quantizer: &'a Quantizer,
    scales: &'a [u8],
    multiplier: f32,
    /// Groups of the present block that are still to come.
    groups: usize,
}

impl<'a> Multipliers<'a> {
    pub(super) fn new(quantizer: &'a Quantizer, scales: &'a [u8]) -> Self {
        Self { quantizer, scales, multiplier: 0.0, groups: 0 }
    }

    /// The multipliers of the groups of the next chunk, 0 beyond the end.
    #[inline(always)]
    pub(super) fn next(&mut self) -> [f32; CHUNK / GROUP] {
        let mut multipliers = [0.0; CHUNK / GROUP];
        for multiplier in &mut multipliers {
            if self.groups == 0 {
                self.multiplier = match self.scales.split_off(..4) {
                    Some(scale) => self.quantizer.multiplier(read_f32(scale)),
                    None => 0.0,
                };
                self.groups = self.quantizer.block() / GROUP;
            }
            self.groups -= 1;
            *multiplier = self.multiplier;
        }
        multipliers
    }
}

/// The last row of a message, with zeros.
#[inline(always)]
pub(super) fn padded<const LANES: usize>(rest: &[f32]) -> Option<[f32; LANES]> {
    let mut row = [0.0; LANES];
    row[..rest.len()].copy_from_slice(rest);
    (!rest.is_empty()).then_some(row)
}
