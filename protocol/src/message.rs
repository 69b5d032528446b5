//! What all messages have in common.

use std::fmt::Debug;

use bytes::Bytes;

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Str, Uuid};

/// A struct inside a message, or a whole one: how its fields of one version are laid out. No version checks here.
pub trait Struct: Sized + Default + Clone + Debug + PartialEq {
    /// The fewest bytes that a value takes in any version.
    const MIN_SIZE: usize;

    fn read(d: &mut Decoder, version: i16) -> Result<Self, DecodeError>;

    fn write(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError>;
}

/// A request, a response, a header or a record: a struct with versions.
pub trait Message: Struct {
    const NAME: &'static str;
    const MIN_VERSION: i16;
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: Option<i16>;

    /// For how many ms a quota holds the client up, in responses that say so (KIP-219).
    fn throttle_time_ms(&mut self) -> Option<&mut i32> {
        None
    }

    fn supports(version: i16) -> bool {
        (Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version)
    }

    fn is_flexible(version: i16) -> bool {
        Self::FLEXIBLE_FROM.is_some_and(|from| version >= from)
    }

    /// Reads one message and leaves the decoder behind it; whether more may follow is for the caller to say.
    fn decode(d: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        if !Self::supports(version) {
            return Err(DecodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        Self::read(d, version)
    }

    /// Writes the fields of `version`. A field that it lacks must have its default, unless it may be ignored.
    /// After an error the encoder holds half a message and is good for nothing.
    fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        if !Self::supports(version) {
            return Err(EncodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        self.write(e, version)
    }

    /// The message alone, with no frame or header, as one slice.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut e = Encoder::new();
        self.encode(&mut e, version)?;
        Ok(e.into_bytes())
    }
}

/// A request, its API and its response.
pub trait Request: Message {
    const API_KEY: ApiKey;
    type Response: Message;

    fn header_version(version: i16) -> i16 {
        Self::API_KEY.request_header_version(version)
    }

    fn response_header_version(version: i16) -> i16 {
        Self::API_KEY.response_header_version(version)
    }
}

/// What arrays hold besides structs.
pub trait Element: Sized {
    const MIN_SIZE: usize;

    fn read(d: &mut Decoder, flexible: bool) -> Result<Self, DecodeError>;

    fn write(&self, e: &mut Encoder, flexible: bool) -> Result<(), EncodeError>;
}

macro_rules! fixed_elements {
    ($($type:ident $method:ident $size:literal),*) => {$(
        impl Element for $type {
            const MIN_SIZE: usize = $size;

            fn read(d: &mut Decoder, _: bool) -> Result<Self, DecodeError> {
                d.$method()
            }

            fn write(&self, e: &mut Encoder, _: bool) -> Result<(), EncodeError> {
                e.$method(*self);
                Ok(())
            }
        }
    )*};
}

fixed_elements!(i8 i8 1, i16 i16 2, i32 i32 4, i64 i64 8, Uuid uuid 16);

impl Element for Str {
    const MIN_SIZE: usize = 1;

    fn read(d: &mut Decoder, flexible: bool) -> Result<Self, DecodeError> {
        d.string(flexible)
    }

    fn write(&self, e: &mut Encoder, flexible: bool) -> Result<(), EncodeError> {
        e.string(self, flexible)
    }
}
