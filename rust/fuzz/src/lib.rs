//! The fuzz targets of declora-core. What they check is written in the core's tests, which run it on random bytes.

#[path = "../../core/tests/suite/fuzz/mod.rs"]
pub mod fuzz;
#[path = "../../core/tests/suite/naive.rs"]
pub mod naive;

/// Makes the calling thread all of rayon's pool: no case waits for another thread.
pub fn alone() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("the first pool of the process");
}

/// The binary of one target.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(init: declora_fuzz::alone(), |data: &[u8]| {
            declora_fuzz::fuzz::run($name, data);
        });
    };
}
