//! What can be wrong with bytes read, and with values to be written.

use std::fmt;

/// Why bytes are not the message they should be. The peer is at fault: answer INVALID_REQUEST or hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame, or the tagged field, ends before the value does.
    Truncated {
        needed: usize,
        remaining: usize,
    },
    /// Null where this version does not allow it.
    UnexpectedNull,
    /// A length beyond what the type may have.
    InvalidLength(u32),
    /// An array announces more elements than the rest of the frame could hold.
    ArrayTooLong {
        announced: usize,
        remaining: usize,
    },
    /// The decoded value would take more memory than the decoder was given (see `Decoder::set_memory_limit`).
    MemoryLimit,
    /// A varint of more than 32 bits.
    InvalidVarint,
    InvalidUtf8,
    /// A tagged field holds more bytes than its type.
    TaggedFieldSize {
        tag: u32,
    },
    /// Two values for one tag.
    DuplicateTag {
        tag: u32,
    },
    /// A tagged field that other versions of the message have, but not this one.
    UnexpectedTag {
        tag: u32,
        version: i16,
    },
    UnsupportedVersion {
        message: &'static str,
        version: i16,
    },
    UnknownApiKey(i16),
    /// A record of a type that these schemas do not have (written by a newer Kafka).
    UnknownRecordType(i16),
    /// A metadata record frame of another layout.
    UnsupportedFrameVersion(u32),
    /// Bytes after the end of the message.
    TrailingBytes(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DecodeError::Truncated { needed, remaining } => {
                write!(f, "needs {needed} bytes where {remaining} are left")
            }
            DecodeError::UnexpectedNull => f.write_str("null in a field that may not be null"),
            DecodeError::InvalidLength(length) => write!(f, "length {length} is beyond the type's limit"),
            DecodeError::ArrayTooLong { announced, remaining } => {
                write!(f, "an array of {announced} elements cannot be in {remaining} bytes")
            }
            DecodeError::MemoryLimit => f.write_str("the decoded message would take too much memory"),
            DecodeError::InvalidVarint => f.write_str("a varint of more than 32 bits"),
            DecodeError::InvalidUtf8 => f.write_str("a string that is not UTF-8"),
            DecodeError::TaggedFieldSize { tag } => write!(f, "tagged field {tag} is longer than its type"),
            DecodeError::DuplicateTag { tag } => write!(f, "tagged field {tag} is there twice"),
            DecodeError::UnexpectedTag { tag, version } => write!(f, "tagged field {tag} is not in version {version}"),
            DecodeError::UnsupportedVersion { message, version } => write!(f, "{message} has no version {version}"),
            DecodeError::UnknownApiKey(key) => write!(f, "unknown API key {key}"),
            DecodeError::UnknownRecordType(kind) => write!(f, "unknown record type {kind}"),
            DecodeError::UnsupportedFrameVersion(version) => write!(f, "unknown record frame version {version}"),
            DecodeError::TrailingBytes(count) => write!(f, "{count} bytes after the end of the message"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why a value has no form in the version asked for. The caller is at fault: the message or the version is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    UnsupportedVersion {
        message: &'static str,
        version: i16,
    },
    /// A field that this version lacks is set, and leaving it out would change the meaning.
    UnsupportedField {
        field: &'static str,
        version: i16,
    },
    /// None where this version does not allow null.
    UnexpectedNull {
        field: &'static str,
    },
    /// Longer than the type's length prefix can say (strings: 32,767 bytes).
    TooLong {
        length: usize,
    },
    /// Unknown tagged fields are set, and this version has no tagged fields.
    TaggedFieldsUnsupported {
        version: i16,
    },
    /// An unknown tagged field has the tag of a known one, or two have the same.
    DuplicateTag {
        tag: u32,
    },
    /// A coordinator's key record is not written at version 0.
    UnknownRecordType(i16),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EncodeError::UnsupportedVersion { message, version } => write!(f, "{message} has no version {version}"),
            EncodeError::UnsupportedField { field, version } => {
                write!(f, "{field} is set, and version {version} cannot carry it")
            }
            EncodeError::UnexpectedNull { field } => write!(f, "{field} may not be null in this version"),
            EncodeError::TooLong { length } => write!(f, "a value of {length} bytes or elements is too long"),
            EncodeError::TaggedFieldsUnsupported { version } => write!(f, "version {version} has no tagged fields"),
            EncodeError::DuplicateTag { tag } => write!(f, "tagged field {tag} is there twice"),
            EncodeError::UnknownRecordType(kind) => write!(f, "unknown record type {kind}"),
        }
    }
}

impl std::error::Error for EncodeError {}
