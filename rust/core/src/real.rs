//! The two types of floats that rows are made of.

use std::ops::{Add, Mul, Sub};

use crate::scratch::Scratch;

/// The two types of floats that can be mixed: `f32` and `f64`.
pub trait Real:
    Copy + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Scratch
{
    /// Zero.
    const ZERO: Self;
    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;
}

macro_rules! real {
    ($($type:ident)*) => { $(
        impl Real for $type {
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }
        }
    )* };
}
real!(f32 f64);
