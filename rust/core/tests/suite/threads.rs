//! No result depends on the number of threads.

use declora_core::frame::HEADER_LEN;
use declora_core::{
    Batch, Factors, check_frames, consensus_distance, decode_frames, dropout_mask_into, encode_frames,
    product_distance,
};
use rayon::ThreadPoolBuilder;

use crate::naive::{codecs, matrix, symmetric, values};

/// Everything the core computes, as bits.
fn everything() -> Vec<Vec<u8>> {
    let (rows, columns) = (4, 30_001);
    let x = values(rows * columns, 1);
    let matrix = matrix(&symmetric(rows, 2));
    let bits = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut results = Vec::new();
    for codec in &codecs(columns) {
        let senders = [0, 1, 2, 3];
        let batch =
            Batch { codec, columns, run_id: [0; 16], manifest: [0; 16], rounds: &[3; 4], senders: &senders };
        let mut bytes = vec![0; rows * (HEADER_LEN + codec.payload_len(columns).unwrap())];
        encode_frames(&batch, &x, &mut bytes, 5).unwrap();
        let frames = check_frames(&batch, &bytes).unwrap();
        let (mut decoded, mut mixed, mut fused) = (vec![0.0; x.len()], x.clone(), x.clone());
        decode_frames(&frames, &mut decoded).unwrap();
        matrix.mix_into(&decoded, &mut mixed, 0.9).unwrap();
        matrix.mix_frames(&frames, &mut fused, 0.9).unwrap();
        results.extend([bits(&decoded), bits(&mixed), bits(&fused)]);
        results.push(bytes);
    }
    let mut in_place = x.clone();
    matrix.mix_in_place(&mut in_place, 0.9).unwrap();
    let mut mask = vec![0.0; x.len()];
    dropout_mask_into(&mut mask, 0.3, (1, 2), &[0, 1, 2, 3], &[4, 5, 6, 7]).unwrap();
    results.extend([bits(&in_place), bits(&mask)]);
    results.push(consensus_distance(&x, rows).unwrap().to_le_bytes().to_vec());
    let layer = |start: usize| Factors {
        a: start,
        b: start + 4000,
        rank: 8,
        outputs: 700,
        inputs: 500,
        scaling: 0.5,
    };
    let distance = product_distance(&x, rows, &[layer(0), layer(9600), layer(19_200)]).unwrap();
    results.push(distance.to_le_bytes().to_vec());
    results
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let [one, two, three] =
        [1, 2, 3].map(|n| ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(everything));
    assert!(one == two && two == three);
}
