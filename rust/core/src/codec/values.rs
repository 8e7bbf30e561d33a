//! The codecs that other codecs write their numbers with.

use super::{Coder, Float};
use crate::error::{Error, Result};
use crate::quantizer::{Norm, Quantizer};

/// How the numbers that a codec keeps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    Float(Float),
    Quantized(Quantizer),
}

impl Values {
    pub(crate) fn coder(&self) -> &dyn Coder {
        match self {
            Self::Float(float) => float,
            Self::Quantized(quantizer) => quantizer,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Float(float) => float.name(),
            Self::Quantized(quantizer) => quantizer.name(),
        }
    }

    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::Float(float) => float.bits(),
            Self::Quantized(quantizer) => quantizer.bits() as u8,
        }
    }

    pub(crate) fn family(self) -> u8 {
        match self {
            Self::Float(float) => float.family(),
            Self::Quantized(quantizer) => quantizer.id()[0],
        }
    }

    pub(crate) fn unbiased(self) -> bool {
        match self {
            Self::Float(float) => float == Float::F32,
            Self::Quantized(_) => true,
        }
    }

    pub(crate) fn error_bound(self, n: usize) -> f64 {
        match self {
            Self::Float(float) => float.error_bound(),
            Self::Quantized(quantizer) => quantizer.error_bound(n),
        }
    }
}

impl std::str::FromStr for Values {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "none" => Self::Float(Float::F32),
            "fp16" => Self::Float(Float::F16),
            "bf16" => Self::Float(Float::BF16),
            _ => match name.as_bytes() {
                [b'q', digit @ b'2'..=b'8'] => {
                    Self::Quantized(Quantizer::of_bits(u32::from(digit - b'0'), 256, Norm::Max)?)
                }
                _ => {
                    return Err(Error::CodecSetting {
                        field: "values",
                        value: format!("{name:?}"),
                        allowed: "none, fp16, bf16 or q2 to q8",
                    });
                }
            },
        })
    }
}
