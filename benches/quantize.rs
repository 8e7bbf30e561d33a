//! Encode, check, decode, decode and add: bits x length x level, in bytes moved per second, beside a copy of the float32
//! input; the other codecs in numbers per second.

#![allow(missing_docs, reason = "criterion's macros")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use declora_benches::{copy, values};
use declora_core::{Codec, Level, Stream, with_level};

/// One length in the second-level cache, one far beyond any cache.
const LENGTHS: [usize; 2] = [1 << 16, 1 << 24];

fn quantize(criterion: &mut Criterion) {
    for n in LENGTHS {
        let x = values(n);
        let mut y = vec![0.0; n];
        let mut group = criterion.benchmark_group(format!("quantize/{n}"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(8 * n as u64));
        group.bench_function("copy", |bencher| bencher.iter(|| copy(&x, &mut y)));
        for name in ["q2", "q3", "q4", "q8", "bf16", "none"] {
            let codec = name.parse::<Codec>().expect("a known codec");
            let mut payload = vec![0; codec.payload_len(n).expect("a short message")];
            let stream = Stream::quantizer(1, 2, 3);
            group.throughput(Throughput::Bytes((4 * n + payload.len()) as u64));
            codec.encode_into(&x, &mut payload, &stream).expect("finite values");
            for &level in Level::available() {
                group.bench_function(BenchmarkId::new(format!("encode/{name}"), level.name()), |bencher| {
                    with_level(level, || bencher.iter(|| codec.encode_into(&x, &mut payload, &stream)));
                });
                // A part of each decode: by the bytes of the whole, so that their times compare.
                group.bench_function(BenchmarkId::new(format!("check/{name}"), level.name()), |bencher| {
                    with_level(level, || bencher.iter(|| codec.check_payload(&payload, n)));
                });
                group.bench_function(BenchmarkId::new(format!("decode/{name}"), level.name()), |bencher| {
                    with_level(level, || bencher.iter(|| codec.decode_into(&payload, &mut y)));
                });
                // Reads the vector, too; by the bytes of a decode, as it replaces one.
                group.bench_function(
                    BenchmarkId::new(format!("decode_add/{name}"), level.name()),
                    |bencher| {
                        with_level(level, || bencher.iter(|| codec.decode_add_into(&payload, 1e-3, &mut y)));
                    },
                );
            }
        }
    }
}

/// The other codecs, at the level of this CPU.
fn schemes(criterion: &mut Criterion) {
    const N: usize = 1 << 20;
    let x = values(N);
    let mut y = vec![0.0; N];
    let mut group = criterion.benchmark_group(format!("schemes/{N}"));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(N as u64));
    for name in [
        "qsgd",
        "natural",
        "sign",
        "topk",
        "randk",
        "eden",
        "eden:bits=2",
        "drive",
        "q2+rans",
        "q4+rans",
        "natural+rans",
    ] {
        let codec = name.parse::<Codec>().expect("a known codec");
        let mut payload = vec![0; codec.payload_len(N).expect("a short message")];
        let stream = Stream::quantizer(1, 2, 3);
        let len = codec.encode_into(&x, &mut payload, &stream).expect("finite values");
        let message = payload[..len].to_vec();
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| codec.encode_into(&x, &mut payload, &stream));
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| codec.decode_into(&message, &mut y));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .nresamples(10_000)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = quantize, schemes
}
criterion_main!(benches);
