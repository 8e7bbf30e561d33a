//! The entropy stage: bytes whose values are far from uniform, written shorter by rANS
//! (Duda 2013, "Asymmetric numeral systems", arXiv 1311.2540; four states in turn after Giesen 2014, arXiv 1402.3392).
//!
//! A payload is 0 and the plain bytes; or, where it is shorter, 1, the plain bytes outside the part that is worth it,
//! and the part: one table of frequencies per phase (a byte's index in the part modulo the period), the four last
//! states (u32), and the words (u16) in the order in which a decoder wants them. A table is a bitmap of the values
//! that occur and, for each, 12 bits of its frequency out of 4096, less 1. All numbers are integers, so the bytes
//! are the same everywhere.

use std::ops::Range;

use super::check::check_padding;
use crate::error::Fault;
use crate::scratch::Scratch;

const STORED: u8 = 0;
const CODED: u8 = 1;
const SCALE_BITS: u32 = 12;
const TOTAL: u32 = 1 << SCALE_BITS;
const SYMBOLS: usize = 256;
const STATES: usize = 4;
/// States stay in 2^16..2^32: a word of 16 bits moves in or out at a time.
const LOW: u32 = 1 << 16;
const WORD: usize = 2;
const BITMAP: usize = SYMBOLS / 8;
/// Largest period: the bytes of eight numbers of seven bits.
const PHASES: usize = 8;

/// Of each value its frequency, and the sum of those before it.
type Table = [(u32, u32); SYMBOLS];

/// Writes `plain` to `out`, which is one byte longer, and returns the length; the rest of `out` is zeros.
pub(super) fn encode(plain: &[u8], part: Range<usize>, period: usize, out: &mut [u8]) -> usize {
    let len = match encode_part(plain, part, period, out) {
        Some(len) => len,
        None => {
            out[0] = STORED;
            out[1..].copy_from_slice(plain);
            out.len()
        }
    };
    out[len..].fill(0);
    len
}

/// The coded form, or nothing where it would not be shorter.
fn encode_part(plain: &[u8], part: Range<usize>, period: usize, out: &mut [u8]) -> Option<usize> {
    let symbols = &plain[part.clone()];
    if symbols.is_empty() {
        return None;
    }
    let mut counts = [[0_u64; SYMBOLS]; PHASES];
    for group in symbols.chunks(period) {
        group.iter().zip(&mut counts).for_each(|(&symbol, counts)| counts[usize::from(symbol)] += 1);
    }
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    put(&[CODED])?;
    put(&plain[..part.start])?;
    put(&plain[part.end..])?;
    let mut tables: [Table; PHASES] = [[(0, 0); SYMBOLS]; PHASES];
    for (table, counts) in tables.iter_mut().zip(&counts).take(period) {
        *table = normalize(counts);
        let (bytes, len) = write_table(table);
        put(&bytes[..len])?;
    }

    // The words come out last first, so they grow down from the end and are moved up at last.
    let mut end = out.len();
    let mut states = [LOW; STATES];
    for (i, &symbol) in symbols.iter().enumerate().rev() {
        let (frequency, start) = tables[i % period][usize::from(symbol)];
        let state = &mut states[i % STATES];
        if u64::from(*state) >= u64::from(frequency) << (32 - SCALE_BITS) {
            end = end.checked_sub(WORD).filter(|&end| end >= at)?;
            out[end..end + WORD].copy_from_slice(&(*state as u16).to_le_bytes());
            *state >>= 16;
        }
        *state = ((*state / frequency) << SCALE_BITS) + *state % frequency + start;
    }
    let words = end..out.len();
    if at + 4 * STATES > words.start {
        return None;
    }
    for state in states {
        out[at..at + 4].copy_from_slice(&state.to_le_bytes());
        at += 4;
    }
    out.copy_within(words.clone(), at);
    Some(at + words.len())
}

/// Frequencies that sum to 4096, at least 1 of each value that occurs.
fn normalize(counts: &[u64; SYMBOLS]) -> Table {
    let total: u64 = counts.iter().sum();
    let mut table = [(0, 0); SYMBOLS];
    for (entry, &count) in table.iter_mut().zip(counts) {
        // At most 2^38 bytes are counted: no overflow.
        let share = (count * u64::from(TOTAL)).checked_div(total).unwrap_or(0);
        entry.0 = (share as u32).max(u32::from(count > 0));
    }
    // Rounding down left some over, or the ones took too much: the commonest values settle it. (Where nothing occurs,
    // in a phase without bytes, one value gets all.)
    let sum: u32 = table.iter().map(|entry| entry.0).sum();
    let (mut more, mut less) = (TOTAL.saturating_sub(sum), sum.saturating_sub(TOTAL));
    while more > 0 || less > 0 {
        let most = table.iter_mut().rev().max_by_key(|entry| entry.0);
        let Some((frequency, _)) = most else { break };
        let taken = less.min(*frequency / 2);
        *frequency = *frequency + more - taken;
        (more, less) = (0, less - taken);
    }
    let mut start = 0;
    for (frequency, before) in &mut table {
        *before = start;
        start += *frequency;
    }
    table
}

/// The bytes of a table, and how many they are.
fn write_table(table: &Table) -> ([u8; BITMAP + SYMBOLS * 3 / 2], usize) {
    let mut bytes = [0; BITMAP + SYMBOLS * 3 / 2];
    let mut half_bytes = 2 * BITMAP;
    for (symbol, &(frequency, _)) in table.iter().enumerate().filter(|(_, entry)| entry.0 > 0) {
        bytes[symbol / 8] |= 1 << (symbol % 8);
        let word = (frequency - 1) << (half_bytes % 2 * 4);
        let at = half_bytes / 2;
        bytes[at] |= word as u8;
        bytes[at + 1] |= (word >> 8) as u8;
        half_bytes += 3;
    }
    (bytes, half_bytes.div_ceil(2))
}

/// Writes the plain bytes of `payload` to `plain`, whose length the receiver knows.
///
/// # Errors
/// Where `payload` is not what [`encode`] could have written.
pub(super) fn decode(
    payload: &[u8],
    part: Range<usize>,
    period: usize,
    plain: &mut [u8],
) -> Result<(), Fault> {
    let mut rest = match payload.split_first() {
        Some((&CODED, rest)) => rest,
        Some((&STORED, rest)) if rest.len() == plain.len() => {
            plain.copy_from_slice(rest);
            return Ok(());
        }
        _ => return Err(Fault::Entropy),
    };
    let mut take = |len: usize| rest.split_off(..len).ok_or(Fault::Entropy);
    plain[..part.start].copy_from_slice(take(part.start)?);
    let after = plain.len() - part.end;
    plain[part.end..].copy_from_slice(take(after)?);
    u32::scratch(period << SCALE_BITS, |slots| {
        for slots in slots.chunks_exact_mut(TOTAL as usize) {
            let bitmap = take(BITMAP)?;
            let symbols = bitmap.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
            let frequencies = take((symbols * 3).div_ceil(2))?;
            check_padding(frequencies, symbols * SCALE_BITS as usize)?;
            read_table(bitmap, frequencies, slots)?;
        }
        let mut states = [0; STATES];
        for state in &mut states {
            *state = take(4)?.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            if *state < LOW {
                return Err(Fault::Entropy);
            }
        }
        for (i, byte) in plain[part].iter_mut().enumerate() {
            let state = &mut states[i % STATES];
            let slot = slots[(i % period) << SCALE_BITS | (*state & (TOTAL - 1)) as usize];
            *byte = slot as u8;
            *state = ((slot >> 8 & (TOTAL - 1)) + 1) * (*state >> SCALE_BITS) + (slot >> 20);
            if *state < LOW {
                let word = take(WORD)?.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
                *state = *state << 16 | u32::from(word);
            }
        }
        // An encoder starts where a decoder ends.
        if states == [LOW; STATES] && take(1).is_err() { Ok(()) } else { Err(Fault::Entropy) }
    })
}

/// Fills the 4096 slots of one table: value, frequency less 1 (from bit 8), and place among its slots (from bit 20).
fn read_table(bitmap: &[u8], frequencies: &[u8], slots: &mut [u32]) -> Result<(), Fault> {
    let mut left = slots;
    let symbols = (0..SYMBOLS as u32).filter(|symbol| bitmap[*symbol as usize / 8] >> (symbol % 8) & 1 == 1);
    for (i, symbol) in symbols.enumerate() {
        let [low, high] =
            [i * 3 / 2, i * 3 / 2 + 1].map(|at| frequencies.get(at).map_or(0, |&byte| u32::from(byte)));
        let less_one = if i % 2 == 0 { low | (high & 15) << 8 } else { low >> 4 | high << 4 };
        let own = left.split_off_mut(..less_one as usize + 1).ok_or(Fault::Entropy)?;
        for (place, slot) in own.iter_mut().enumerate() {
            *slot = symbol | less_one << 8 | (place as u32) << 20;
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Fault::Entropy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2^32 equal bytes are a message of 16 GiB: none is made here.
    #[test]
    fn values_that_occur_more_often_than_32_bits_count_get_their_share() {
        for (common, rare) in [(1_u64 << 32, 0), (1 << 32, 1 << 32), (1 << 38, 1), (1 << 32, 1 << 30)] {
            let mut counts = [0; SYMBOLS];
            (counts[7], counts[200]) = (common, rare);
            let table = normalize(&counts);
            let share = u64::from(TOTAL) * rare / (common + rare);
            assert_eq!(u64::from(table[200].0), share.max(u64::from(rare > 0)));
            assert_eq!(table[7].0, TOTAL - table[200].0);
        }
    }
}
