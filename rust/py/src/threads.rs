//! How many threads the core uses. Results never depend on it.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::arrays::integer;
use crate::error::{ConfigError, raise};

/// The threads of this process. It is locked only by holders of the GIL, as is the thread that forks: so no child finds
/// it locked.
static THREADS: Mutex<Threads> = Mutex::new(Threads { count: 0, forked: false, pool: None });

struct Threads {
    /// How many are wanted; 0 is one per core.
    count: u16,
    /// Whether this process was forked. Then rayon's own pool may be the parent's, whose threads are not here.
    forked: bool,
    /// Started by the first call that needs it.
    pool: Option<Arc<ThreadPool>>,
}

impl Threads {
    fn lock() -> MutexGuard<'static, Self> {
        THREADS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool to work on; none where it is rayon's own, one thread per core, which short calls need not wait for.
    fn pool(&mut self) -> PyResult<Option<Arc<ThreadPool>>> {
        let Self { count, forked, pool } = self;
        if pool.is_none() && (*count > 0 || *forked) {
            let started = ThreadPoolBuilder::new().num_threads((*count).into()).build();
            *pool = Some(Arc::new(started.map_err(|error| {
                ConfigError::new_err(format!("count={count} threads cannot be started: {error}"))
            })?));
        }
        Ok(pool.clone())
    }
}

/// Releases the GIL, runs `work` on the pool and maps its error.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> declora_core::Result<T> + Send,
) -> PyResult<T> {
    let pool = Threads::lock().pool()?;
    py.detach(|| match pool {
        Some(pool) => pool.install(work),
        None => work(),
    })
    .map_err(raise)
}

#[pyfunction]
pub(crate) fn set_threads(count: &Bound<'_, PyAny>) -> PyResult<()> {
    let count = integer("count", count)?;
    let mut threads = Threads::lock();
    let mut wanted = Threads { count, forked: threads.forked, pool: None };
    wanted.pool()?;
    *threads = wanted;
    Ok(())
}

#[pyfunction]
pub(crate) fn threads() -> PyResult<usize> {
    let pool = Threads::lock().pool()?;
    Ok(pool.map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads()))
}

/// Forgets the pool of the parent in a child that was forked: its threads are not there. The next call starts others.
#[pyfunction]
fn forget() {
    let mut threads = Threads::lock();
    threads.forked = true;
    // Not dropped, as that would wait for locks that the parent's threads may have held.
    mem::forget(threads.pool.take());
}

/// Has Python call [`forget`] in every child that it forks, on the systems that fork.
pub(crate) fn survive_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let Ok(register) = py.import("os")?.getattr("register_at_fork") else { return Ok(()) };
    let arguments = pyo3::types::PyDict::new(py);
    arguments.set_item("after_in_child", pyo3::wrap_pyfunction!(forget, py)?)?;
    register.call((), Some(&arguments)).map(drop)
}
