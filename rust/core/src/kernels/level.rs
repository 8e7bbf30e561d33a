//! Which instruction sets there are, and which one runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// An instruction set that the kernels are compiled for. A value is the proof that this CPU has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// Plain Rust, whatever the compiler makes of it.
    Portable,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512-bit vectors with byte permutations (VBMI) and 16-bit dot products (VNNI).
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Index of the fastest level to use; only [`with_level`] changes it.
static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Level {
    /// Names of all levels, slowest first, whether or not this CPU has them.
    pub const NAMES: [&'static str; 3] = ["portable", "avx2", "avx512"];

    /// The levels of this CPU, slowest first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Level>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            let wider = [Avx2::new().map(Self::Avx2), Avx512::new().map(Self::Avx512)];
            #[cfg(not(target_arch = "x86_64"))]
            let wider: [Option<Self>; 0] = [];
            std::iter::once(Self::Portable).chain(wider.into_iter().flatten()).collect()
        })
    }

    /// The level that runs: the fastest of this CPU, unless [`with_level`] says otherwise.
    #[must_use]
    pub fn current() -> Self {
        let levels = Self::available();
        levels[CEILING.load(Ordering::Relaxed).min(levels.len() - 1)]
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => Self::NAMES[0],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Self::NAMES[1],
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Self::NAMES[2],
        }
    }
}

/// Runs `work` with `level` on all threads: for tests and benches that compare levels.
///
/// No result depends on the level, so other threads may run meanwhile. One such call runs at a time; they
/// cannot be nested.
#[doc(hidden)]
pub fn with_level<T>(level: Level, work: impl FnOnce() -> T) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            CEILING.store(usize::MAX, Ordering::Relaxed);
        }
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _restore = Restore; // dropped before the turn, also by a panic
    let at = Level::available().iter().position(|&other| other == level);
    CEILING.store(at.unwrap_or(0), Ordering::Relaxed);
    work()
}
