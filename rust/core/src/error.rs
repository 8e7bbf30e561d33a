//! What can be wrong with an input: every message names the field, the value and the fix.

use std::fmt;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An input that was refused; nothing of it was used.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A codec name that is not one of [`Codec::NAMES`](crate::Codec::NAMES).
    UnknownCodec {
        /// The name as given.
        name: String,
        /// All names there are.
        known: &'static [&'static str],
    },
    /// An option that a codec does not have.
    UnknownOption {
        /// Name of the codec.
        codec: String,
        /// The option as given.
        option: String,
        /// The options that the codec has.
        known: Vec<&'static str>,
    },
    /// Something after a plus that is no stage of a codec.
    UnknownStage {
        /// The stage as given.
        stage: String,
    },
    /// Another number of numbers than the shapes of a low-rank codec add up to.
    Shapes {
        /// Number of numbers.
        have: usize,
        /// What the shapes add up to.
        need: usize,
    },
    /// A setting of a codec out of its range.
    CodecSetting {
        /// Name of the setting.
        field: &'static str,
        /// Its value, as text.
        value: String,
        /// The values that can be used.
        allowed: &'static str,
    },
    /// An argument out of its range.
    Argument {
        /// Name of the argument.
        field: &'static str,
        /// Its value, as text.
        value: String,
        /// The values that can be used.
        allowed: &'static str,
    },
    /// A slice whose length does not fit the others.
    Length {
        /// Name of the slice.
        field: &'static str,
        /// Its length in items.
        have: usize,
        /// The length that the other arguments ask for.
        need: usize,
    },
    /// A number that a codec cannot represent: not finite, or too large.
    Value {
        /// Row of the number, where a matrix was encoded.
        row: Option<usize>,
        /// Index of the first such number (in its row).
        index: usize,
        /// The number.
        value: f32,
        /// Magnitudes below this one can be encoded.
        limit: f32,
        /// Name of the codec.
        codec: &'static str,
    },
    /// A mixing matrix that does not average.
    Matrix {
        /// The first row at fault.
        row: usize,
        /// What is wrong with it, and the fix.
        what: String,
    },
    /// Bytes that are not the message that they should be.
    Frame {
        /// Row of the message, where several were given.
        row: Option<usize>,
        /// The first field at fault.
        fault: Fault,
    },
}

/// The first thing wrong with a message, in the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Fewer or more bytes than the frame should have.
    Size {
        /// Number of bytes given.
        have: usize,
        /// Number of bytes expected.
        need: usize,
    },
    /// The first four bytes are not "DLRA".
    Magic,
    /// Another version of the format.
    Version {
        /// Major version in the header.
        major: u8,
        /// Minor version in the header.
        minor: u8,
    },
    /// The header's own checksum does not match: damaged on the way.
    HeaderChecksum,
    /// A message kind that is not known.
    Kind(u8),
    /// Flags that are not known.
    Flags(u8),
    /// Reserved bytes that are not zero.
    Reserved,
    /// A message of another run.
    RunId,
    /// A message made under another manifest.
    Manifest,
    /// A message of another round.
    Round {
        /// Round in the header.
        have: u64,
        /// Round expected.
        need: u64,
    },
    /// A message from somebody else.
    Sender {
        /// Sender in the header.
        have: u32,
        /// Sender expected.
        need: u32,
    },
    /// A payload made by another codec.
    Codec {
        /// Codec id in the header.
        have: u32,
        /// Codec id expected.
        need: u32,
    },
    /// A payload quantized in blocks of another size.
    Block {
        /// Block in the header.
        have: u32,
        /// Block expected.
        need: u32,
    },
    /// A payload length other than the one agreed.
    PayloadLength {
        /// Length in the header.
        have: u64,
        /// Length expected.
        need: u64,
    },
    /// The payload's checksum does not match: damaged on the way.
    PayloadChecksum,
    /// A quantizer scale that is negative, not finite or too large.
    Scale {
        /// Index of the block.
        block: usize,
    },
    /// A code that stands for no number of the codec.
    Code {
        /// Index of the number.
        index: usize,
    },
    /// A number in the payload that is not finite.
    NotFinite {
        /// Index of the number.
        index: usize,
    },
    /// A factor of a low-rank matrix that is larger than an encoder's.
    Factor {
        /// Index of the factor, or whole matrix, in the payload.
        part: usize,
        /// Index of the number in it.
        index: usize,
    },
    /// Indices that do not increase, or that are not those of as many numbers as there should be.
    Indices,
    /// Bits after the last number that are not zero.
    Padding,
    /// Bytes that the entropy stage cannot have written.
    Entropy,
}

impl Error {
    /// Returns the same error with the row of the matrix in which it was found.
    #[must_use]
    pub fn in_row(self, at: usize) -> Self {
        match self {
            Self::Value { index, value, limit, codec, .. } => {
                Self::Value { row: Some(at), index, value, limit, codec }
            }
            Self::Frame { fault, .. } => Self::Frame { row: Some(at), fault },
            other => other,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Frame { row: None, fault }
    }
}

impl std::error::Error for Error {}
impl std::error::Error for Fault {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCodec { name, known } => {
                write!(f, "codec={name:?} is not known. Known: {}.", known.join(", "))
            }
            Self::UnknownOption { codec, option, known } => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                write!(f, "codec option={option:?} is not known. Options of {codec:?}: {known}.")
            }
            Self::UnknownStage { stage } => {
                write!(f, "codec stage={stage:?} is not known. Known: rans.")
            }
            Self::Shapes { have, need } => write!(
                f,
                "x has {have} numbers, but codec \"powersgd\" was given shapes of {need}; give it the shapes of the \
                 message's matrices."
            ),
            Self::CodecSetting { field, value, allowed } | Self::Argument { field, value, allowed } => {
                write!(f, "{field}={value} cannot be used: it must be {allowed}.")
            }
            Self::Length { field, have, need } => {
                write!(f, "{field} has {have} items, but the other arguments ask for {need}.")
            }
            Self::Value { row, index, value, limit, codec } => {
                match row {
                    Some(row) => write!(f, "x[{row}, {index}]={value:e}")?,
                    None => write!(f, "x[{index}]={value:e}")?,
                }
                write!(
                    f,
                    " cannot be encoded by codec {codec:?}: it must be finite and below {limit:e} in magnitude."
                )
            }
            Self::Matrix { row, what } => write!(f, "weights row {row}: {what}"),
            Self::Frame { row: Some(row), fault } => write!(f, "frame {row}: {fault}"),
            Self::Frame { row: None, fault } => write!(f, "frame: {fault}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Size { have, need } => write!(f, "it has {have} bytes instead of {need}."),
            Self::Magic => {
                write!(f, "magic: it does not begin with \"DLRA\", so it is not a message of declora.")
            }
            Self::Version { major, minor } => {
                write!(f, "version={major}.{minor} instead of 1.0: all peers must run the same format.")
            }
            Self::HeaderChecksum => write!(f, "header checksum does not match: it was damaged on the way."),
            Self::Kind(kind) => write!(f, "kind={kind} is not known: 1 (adapter) is the only one."),
            Self::Flags(flags) => write!(f, "flags={flags:#04x} are not known: they must be 0."),
            Self::Reserved => write!(f, "reserved bytes are not zero."),
            Self::RunId => write!(f, "run id is that of another run."),
            Self::Manifest => {
                write!(f, "manifest hash is another one: all peers must start from the same configuration.")
            }
            Self::Round { have, need } => write!(f, "round={have}, but round {need} was expected."),
            Self::Sender { have, need } => write!(f, "sender={have}, but sender {need} was expected."),
            Self::Codec { have, need } => {
                write!(f, "codec id={have:#010x}, but {need:#010x} was agreed in the manifest.")
            }
            Self::Block { have, need } => write!(f, "block={have}, but {need} was agreed in the manifest."),
            Self::PayloadLength { have, need } => {
                write!(f, "payload length={have}, but {need} follows from the manifest.")
            }
            Self::PayloadChecksum => write!(f, "payload checksum does not match: it was damaged on the way."),
            Self::Scale { block } => {
                write!(f, "payload: scale of block {block} is not a finite number from 0 to below 2^127.")
            }
            Self::Code { index } => {
                write!(f, "payload: the code of number {index} is beyond the codec's levels.")
            }
            Self::NotFinite { index } => write!(f, "payload: number {index} is not finite."),
            Self::Factor { part, index } => {
                write!(f, "payload: number {index} of factor {part} is larger than any encoder's.")
            }
            Self::Indices => write!(f, "payload: its indices do not increase, or are not as many as agreed."),
            Self::Padding => write!(f, "payload: unused bits are not zero."),
            Self::Entropy => write!(f, "payload: it is not what the entropy stage writes."),
        }
    }
}
