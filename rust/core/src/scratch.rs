//! Memory that a thread keeps between calls, so that the hot paths allocate only once.

use std::cell::Cell;

/// Types of which every thread keeps some.
pub trait Scratch: Copy + Default + 'static {
    /// Runs `work` with `len` items; what they hold is left over from before.
    fn scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! scratch {
    ($($type:ident)*) => { $(
        impl Scratch for $type {
            fn scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static MEMORY: Cell<Vec<$type>> = const { Cell::new(Vec::new()) };
                }
                // Taken, not borrowed: a thread that waits for others may start on another message meanwhile.
                let mut memory = MEMORY.take();
                if memory.len() < len {
                    memory.resize(len, Self::default());
                }
                let result = work(&mut memory[..len]);
                MEMORY.set(memory);
                result
            }
        }
    )* };
}
scratch!(u8 u32 f32 f64);
