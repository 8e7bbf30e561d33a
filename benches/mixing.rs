//! Mixing and the consensus distance: ring, exponential and complete graph, at every level, from float32 and from q4
//! frames, beside a copy of the same matrix.

#![allow(missing_docs, reason = "criterion's macros")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use declora_benches::{circulant, copy, values};
use declora_core::frame::HEADER_LEN;
use declora_core::{
    Average, Batch, Codec, Level, MixingMatrix, check_frames, consensus_distance, encode_frames, with_level,
};

fn mixing(criterion: &mut Criterion, name: &str, clients: usize, columns: usize, offsets: &[usize]) {
    let (indptr, indices, weights) = circulant(clients, offsets);
    let matrix = MixingMatrix::new(&indptr, &indices, &weights).expect("a doubly stochastic matrix");
    let z = values(clients * columns);
    let mut x = z.clone();

    let codec = "q4".parse::<Codec>().expect("a known codec");
    let senders: Vec<u32> = (0..clients as u32).collect();
    let rounds = vec![0; clients];
    let (run_id, manifest) = ([0; 16], [0; 16]);
    let batch = Batch { codec: &codec, columns, run_id, manifest, rounds: &rounds, senders: &senders };
    let mut bytes = vec![0; clients * (HEADER_LEN + codec.payload_len(columns).expect("a short message"))];
    encode_frames(&batch, &z, &mut bytes, 1).expect("finite values");
    let frames = check_frames(&batch, &bytes).expect("whole frames");
    let average = Average::new(&vec![1.0 / clients as f64; clients], 0.0).expect("weights that average");

    let mut group = criterion.benchmark_group(format!("mixing/{name}/{clients}x{columns}"));
    // Of a copy, for all of them: the question is how many copies of the matrix a round of gossip costs.
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(8 * (clients * columns) as u64));
    group.bench_function("copy", |bencher| bencher.iter(|| copy(&z, &mut x)));
    for &level in Level::available() {
        let id = |name| BenchmarkId::new(name, level.name());
        group.bench_function(id("mix"), |bencher| {
            with_level(level, || bencher.iter(|| matrix.mix_into(&z, &mut x, 1e-3)));
        });
        group.bench_function(id("mix_in_place"), |bencher| {
            with_level(level, || bencher.iter(|| matrix.mix_in_place(&mut x, 1.0)));
        });
        group.bench_function(id("mix_frames/q4"), |bencher| {
            with_level(level, || bencher.iter(|| matrix.mix_frames(&frames, &mut x, 1e-3)));
        });
        if offsets.len() + 1 == clients {
            group.bench_function(id("average"), |bencher| {
                with_level(level, || bencher.iter(|| average.mix_into(&z, &mut x, 0, 1e-3)));
            });
            group.bench_function(id("average_frames/q4"), |bencher| {
                with_level(level, || bencher.iter(|| average.mix_frames(&frames, &mut x, 0, 1e-3)));
            });
        }
        group.bench_function(id("consensus_distance"), |bencher| {
            with_level(level, || bencher.iter(|| consensus_distance(&z, clients)));
        });
    }
}

fn ring(criterion: &mut Criterion) {
    mixing(criterion, "ring", 64, 500_003, &[1, 63]);
    // Rows a power of two apart share the sets of a cache.
    mixing(criterion, "ring", 64, 1 << 19, &[1, 63]);
}

fn exponential(criterion: &mut Criterion) {
    let offsets: Vec<usize> = (0..10).map(|power| 1 << power).collect();
    mixing(criterion, "exponential", 1024, 32_771, &offsets);
    // As many neighbours, but all of them in near caches: what there is to gain by how rows are held.
    let near: Vec<usize> = (1..=10).collect();
    mixing(criterion, "near", 1024, 32_771, &near);
}

/// What is a matrix like any other, and one row that all rows are.
fn complete(criterion: &mut Criterion) {
    let all: Vec<usize> = (1..64).collect();
    mixing(criterion, "complete", 64, 200_003, &all);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .nresamples(10_000)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = ring, exponential, complete
}
criterion_main!(benches);
