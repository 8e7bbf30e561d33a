//! The crate's tests: one file per room, all against `naive.rs` or a fact.
#![allow(clippy::needless_range_loop, reason = "oracles index as the formulas do")]

mod accumulate;
mod batch;
mod codec;
mod dropout;
mod frame;
mod fuzz;
mod golden;
mod hostile;
mod levels;
mod lora;
mod mixing;
mod naive;
mod philox;
mod push;
mod quantize;
mod robust;
mod robust_oracle;
mod schemes;
mod stats;
mod threads;
