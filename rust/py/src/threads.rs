//! How many threads the core uses. Results never depend on it.

use std::sync::{Arc, PoisonError, RwLock};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::arrays::integer;
use crate::error::{ConfigError, raise};

/// `None`: rayon's own pool, one thread per core, started by the first call that needs it.
static POOL: RwLock<Option<Arc<ThreadPool>>> = RwLock::new(None);

fn pool() -> Option<Arc<ThreadPool>> {
    POOL.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Releases the GIL, runs `work` on the pool and maps its error.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> declora_core::Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    })
    .map_err(raise)
}

#[pyfunction]
pub(crate) fn set_threads(count: &Bound<'_, PyAny>) -> PyResult<()> {
    let threads: u16 = integer("count", count)?;
    let pool =
        match threads {
            0 => None,
            _ => Some(Arc::new(ThreadPoolBuilder::new().num_threads(threads.into()).build().map_err(
                |error| ConfigError::new_err(format!("count={threads} threads cannot be started: {error}")),
            )?)),
        };
    *POOL.write().unwrap_or_else(PoisonError::into_inner) = pool;
    Ok(())
}

#[pyfunction]
pub(crate) fn threads() -> usize {
    pool().map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads())
}
