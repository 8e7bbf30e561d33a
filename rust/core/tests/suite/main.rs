//! The crate's tests: one file per room, all against `naive.rs` or a fact.
#![allow(clippy::needless_range_loop, reason = "oracles index as the formulas do")]

mod accumulate;
mod average;
mod batch;
mod bounds;
mod cases;
mod codec;
mod dropout;
mod eden;
mod foreign;
mod frame;
mod fuzz;
mod golden;
mod hostile;
mod levels;
mod lora;
mod low_rank;
mod mixing;
mod naive;
mod payloads;
mod philox;
mod products;
mod push;
mod quantize;
mod rectangle;
mod robust;
mod robust_oracle;
mod robust_refusals;
mod rooms;
mod schemes;
mod stats;
mod threads;
mod tiny;
mod trials;
