//! `declora._core`: borrow arrays, release the GIL, call declora-core, map errors. No arithmetic here.
#![deny(unsafe_code)]
#![deny(
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod arrays;
mod codec;
mod error;
mod frames;
mod functions;
mod lora;
mod mixing;
mod robust;
mod threads;

#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    const HEADER_BYTES: usize = declora_core::frame::HEADER_LEN;

    #[pymodule_export]
    use crate::codec::{Codec, codec_options};
    #[pymodule_export]
    use crate::frames::{
        CheckedFrames, check_frames, decode_frames, encode_frames, frame_bytes, open_frames, seal_frames,
        sealed_bytes,
    };
    #[pymodule_export]
    use crate::functions::{
        consensus_distance, crc32c, dropout_mask, level, philox4x32_10, product_distance,
    };
    #[pymodule_export]
    use crate::lora::{lora_backward, lora_forward};
    #[pymodule_export]
    use crate::mixing::{Average, MixingMatrix};
    #[pymodule_export]
    use crate::robust::{clipped, clipped_beyond, krum, median, nearest, push, trimmed_mean};
    #[pymodule_export]
    use crate::threads::{set_threads, threads};

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::threads::survive_forks(module)
    }
}
