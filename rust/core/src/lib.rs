//! The core of declora: gossip on flat `f32` slices, slices in and slices out.
//!
//! A message is made by a [`Codec`] (how `n` numbers become a payload of a size that is known up front) and
//! a [`frame`] (96 bytes that say what the payload is). A [`MixingMatrix`] moves every row of a
//! `[clients, columns]` matrix towards what its neighbours sent. [`GroupedLora`] is what the clients of a group compute
//! between messages.
//!
//! Two promises hold everywhere. **Results are functions of the inputs and the seed**: never of the number of
//! threads, of the tile size or of the instruction set. **Bytes are rejected, never trusted**: no input can
//! cause a panic, and no length that was read from a message sizes an allocation.
//!
//! ```
//! use declora_core::{Codec, Stream};
//!
//! let codec: Codec = "q4".parse()?;
//! let x = [0.5, -1.0, 0.25, 1.0];
//! let mut payload = vec![0; codec.payload_len(x.len())?];
//! codec.encode_into(&x, &mut payload, &Stream::quantizer(7, 0, 3))?;
//!
//! let mut y = [0.0; 4];
//! codec.decode_into(&payload, &mut y)?;
//! assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1.0 / 7.0));
//! # Ok::<(), declora_core::Error>(())
//! ```
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod batch;
mod codec;
mod dropout;
mod error;
mod foreign;
pub mod frame;
mod kernels;
mod lora;
mod mixing;
mod philox;
mod products;
mod push;
mod quantizer;
mod real;
mod robust;
mod scratch;
mod stats;

pub use batch::{Batch, CheckedFrames, Frames, check_frames, decode_frames, encode_frames};
pub use codec::{Codec, MAX_ELEMENTS};
pub use dropout::{MAX_SAMPLES, dropout_mask_into};
pub use error::{Error, Fault, Result};
pub use foreign::{Foreign, open_frames, seal_frames, sealed_lens};
#[doc(hidden)]
pub use kernels::with_level;
pub use kernels::{Level, Mixed};
pub use lora::{GroupedLora, LoraGradients};
pub use mixing::{Average, MixingMatrix};
pub use philox::{Stream, philox4x32_10};
pub use products::{Factors, product_distance};
pub use quantizer::Norm;
pub use real::Real;
pub use stats::consensus_distance;

/// CRC32C (Castagnoli) of `data`, as in RFC 3720 appendix B.4.
#[must_use]
pub fn crc32c(data: &[u8]) -> u32 {
    ::crc32c::crc32c(data)
}
