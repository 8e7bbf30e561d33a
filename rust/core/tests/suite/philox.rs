//! The generator: published vectors, and which number belongs to which element.

use declora_core::{Stream, philox4x32_10};

use crate::naive;

/// `philox4x32 10` of `kat_vectors` in Random123 (Salmon et al., SC'11): counter, key, output.
const KNOWN: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
    ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ),
];

#[test]
fn philox_gives_the_published_vectors() {
    for (counter, key, output) in KNOWN {
        assert_eq!(philox4x32_10(counter, key), output);
        assert_eq!(naive::philox(counter, u64::from(key[1]) << 32 | u64::from(key[0])), output);
    }
}

/// With s = 1 and 8 bits, x = k / 127 / 65536 has V = k: the code steps up exactly where r >= 65536 - k.
/// Encoding two neighbouring k for every element therefore reads its r back, without trusting the kernel.
#[test]
fn every_element_has_its_own_number_of_the_promised_counter() {
    let codec = naive::codec("q8:block=1024");
    let (seed, round, client) = (0x0123_4567_89ab_cdef, 0xffff_ffff, 0x8000_0001);
    let n = 1024;
    let codes = |fixed: &dyn Fn(usize) -> u32| {
        let mut x: Vec<f32> = (0..n).map(|i| (f64::from(fixed(i)) / 127.0 / 65536.0) as f32).collect();
        x[n - 1] = 1.0; // the scale
        let mut payload = vec![0; codec.payload_len(n).unwrap()];
        codec.encode_into(&x, &mut payload, &Stream::quantizer(seed, round, client)).unwrap();
        payload[4..].to_vec()
    };
    let expected: Vec<u32> = (0..n).map(|i| naive::draw(i, [0, client, round], seed)).collect();
    let at = codes(&|i| 65536 - expected[i]);
    let below = codes(&|i| (65536 - expected[i]).saturating_sub(1));
    for i in 0..n - 1 {
        if expected[i] > 0 {
            assert_eq!((at[i], below[i]), (128, 127), "element {i}");
        }
    }
}
