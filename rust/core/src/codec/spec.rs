//! Codecs as text: `NAME[:OPTION=VALUE,...][+rans]`, and back.

use std::fmt;
use std::str::FromStr;

use super::{Codec, Eden, Float, LowRank, Natural, RandK, Scheme, Sign, TopK, Values};
use crate::error::{Error, Result};
use crate::quantizer::{Norm, Quantizer};

/// The options of one codec, each of which can be taken once.
struct Options<'a> {
    codec: &'a str,
    given: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    fn new(codec: &'a str, text: &'a str) -> Self {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let given = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        Self { codec, given, known: Vec::new() }
    }

    /// The value of an option, or its default.
    fn take<T: FromStr>(&mut self, name: &'static str, default: T, allowed: &'static str) -> Result<T> {
        match self.text(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| Error::CodecSetting {
                field: name,
                value: format!("{value:?}"),
                allowed,
            }),
        }
    }

    /// The value of an option that reports its own errors.
    fn take_named<T: FromStr<Err = Error>>(&mut self, name: &'static str, default: T) -> Result<T> {
        self.text(name).map_or(Ok(default), str::parse)
    }

    fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        let at = self.given.iter().position(|(given, _)| *given == name)?;
        Some(self.given.remove(at).1)
    }

    /// Refuses what nobody took.
    fn finish(self) -> Result<()> {
        match self.given.first() {
            None => Ok(()),
            Some((option, _)) => Err(Error::UnknownOption {
                codec: self.codec.to_owned(),
                option: (*option).to_owned(),
                known: self.known,
            }),
        }
    }
}

const WHOLE: &str = "a whole number";

fn scheme(name: &str, options: &mut Options<'_>) -> Result<Scheme> {
    Ok(match name {
        "none" => Scheme::Float(Float::F32),
        "fp16" => Scheme::Float(Float::F16),
        "bf16" => Scheme::Float(Float::BF16),
        "qsgd" => {
            let levels = options.take("levels", 15, WHOLE)?;
            let block = options.take("block", 512, WHOLE)?;
            Scheme::Quantized(Quantizer::qsgd(levels, block, options.take_named("norm", Norm::L2)?)?)
        }
        "natural" => Scheme::Natural(Natural),
        "sign" => Scheme::Sign(Sign::new(options.take("block", 256, WHOLE)?)?),
        "topk" | "randk" => {
            let fraction = options.take("fraction", 0.05, "a number above 0 and at most 1")?;
            let values = options.take_named("values", "q8".parse::<Values>()?)?;
            match name {
                "topk" => Scheme::TopK(TopK::new(fraction, values)?),
                _ => Scheme::RandK(RandK::new(fraction, values)?),
            }
        }
        "eden" | "drive" => {
            let bits = if name == "drive" { 1 } else { options.take("bits", 4, WHOLE)? };
            let block = options.take("block", 4096, WHOLE)?;
            Scheme::Eden(Eden::new(bits, block, options.take("rotations", 2, WHOLE)?)?)
        }
        "powersgd" => {
            let rank = options.take("rank", 2, WHOLE)?;
            let iterations = options.take("iterations", 2, WHOLE)?;
            let values = options.take_named("values", Values::Float(Float::F32))?;
            Scheme::LowRank(LowRank::new(rank, iterations, values)?)
        }
        _ => match name.as_bytes() {
            [b'q', digit @ b'2'..=b'8'] => {
                let block = options.take("block", 256, WHOLE)?;
                let norm = options.take_named("norm", Norm::Max)?;
                Scheme::Quantized(Quantizer::of_bits(u32::from(digit - b'0'), block, norm)?)
            }
            _ => return Err(Error::UnknownCodec { name: name.to_owned(), known: &Codec::NAMES }),
        },
    })
}

impl Codec {
    /// The options that the codec `name` takes, in the order of its text; `None` where there is no such codec.
    #[must_use]
    pub fn options(name: &str) -> Option<Vec<&'static str>> {
        let mut options = Options::new(name, "");
        scheme(name, &mut options).ok().map(|_| options.known)
    }
}

impl FromStr for Codec {
    type Err = Error;

    /// Returns the codec that the text names.
    ///
    /// # Errors
    /// [`Error::UnknownCodec`], [`Error::UnknownOption`], [`Error::UnknownStage`], or [`Error::CodecSetting`].
    fn from_str(text: &str) -> Result<Self> {
        let (text, stage) = text.split_once('+').map_or((text, None), |(text, stage)| (text, Some(stage)));
        let (name, given) = text.split_once(':').unwrap_or((text, ""));
        let mut options = Options::new(name, given);
        let scheme = scheme(name, &mut options)?;
        options.finish()?;
        let rans = match stage {
            None => false,
            Some("rans") if name == "sign" => {
                let allowed = "left out with \"sign\", whose bits cannot be shortened";
                return Err(Error::CodecSetting { field: "stage", value: "\"rans\"".to_owned(), allowed });
            }
            Some("rans") => true,
            Some(other) => return Err(Error::UnknownStage { stage: other.to_owned() }),
        };
        Ok(Self { scheme, rans })
    }
}

impl fmt::Display for Codec {
    /// Writes the name with every option, so that two codecs of one text are equal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match &self.scheme {
            Scheme::Float(_) | Scheme::Natural(_) => {}
            Scheme::Quantized(quantizer) => {
                let levels = match quantizer.name() {
                    "qsgd" => format!("levels={},", quantizer.levels()),
                    _ => String::new(),
                };
                write!(f, ":{levels}block={},norm={}", quantizer.block(), quantizer.norm().name())?;
            }
            Scheme::Sign(sign) => write!(f, ":block={}", sign.block())?,
            Scheme::TopK(topk) => {
                write!(f, ":fraction={},values={}", topk.fraction(), topk.values().name())?;
            }
            Scheme::RandK(randk) => {
                write!(f, ":fraction={},values={}", randk.fraction(), randk.values().name())?;
            }
            Scheme::Eden(eden) => {
                write!(f, ":bits={},block={},rotations={}", eden.bits(), eden.block(), eden.rotations())?;
            }
            Scheme::LowRank(low_rank) => {
                let (rank, iterations) = (low_rank.rank(), low_rank.iterations());
                write!(f, ":rank={rank},iterations={iterations},values={}", low_rank.values().name())?;
            }
        }
        f.write_str(if self.rans { "+rans" } else { "" })
    }
}
