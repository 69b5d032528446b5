//! Apache Kafka's messages, generated from its own schemas by `scripts/generate-protocol`.
//!
//! - [`messages`]: requests, responses and headers. One struct carries the fields of all versions; [`Message::decode`]
//!   and [`Message::encode`] take the version. A field that a version lacks gets its default when read; when written
//!   it must have it, unless the schema lets it be ignored.
//! - [`records`]: what the coordinators, the metadata log and tiered storage write, framed by [`record_frame`].
//! - [`Decoder`] borrows from the frame: [`Str`] and `Bytes` fields are slices of it and keep it alive. Every length is
//!   checked, and the memory that a frame can make it take is bounded.
//! - [`Encoder`] gives a list of slices: big `Bytes` (records) are passed on, never copied.
//! - [`ApiKey`], [`ErrorCode`]: Kafka's numbers, with what is known about them.
//!
//! Shapes: `string` is [`Str`], `bytes` is `Bytes`, `records` is `Option<Bytes>` (undecoded batches) in
//! requests and `Option<Records>` (the same in slices) in responses, `uuid` is [`Uuid`],
//! an array is a `Vec`; what is nullable in any version is an `Option`. Error codes stay `i16` in the messages, for a
//! peer may send codes that this build does not know. Nothing here does I/O, and nothing recurses without bound.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

#[macro_use]
mod reflect;

mod api_key;
mod decoder;
mod encoder;
mod error;
mod error_code;
pub mod frame;
mod message;
pub mod messages;
pub mod record_frame;
pub mod records;
#[cfg(feature = "reflect")]
mod schemas;
mod slices;
mod str;
mod tagged;
mod uuid;

pub use api_key::{ApiKey, Listener};
pub use decoder::{Decoder, TaggedScope};
pub use encoder::{Encoder, SLICE_THRESHOLD, TaggedMark};
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use message::{Element, Message, Request, Struct};
pub use messages::{RequestKind, ResponseKind};
#[cfg(feature = "reflect")]
pub use reflect::{Random, Reflect, Schema, Tree};
#[cfg(feature = "reflect")]
pub use schemas::SCHEMAS;
pub use slices::Records;
pub use str::Str;
pub use tagged::{TaggedField, TaggedFields};
pub use uuid::{ParseUuidError, Uuid};

/// What every generated module uses.
mod prelude {
    pub(crate) use crate::message::{Message, Request, Struct};
    pub(crate) use crate::tagged::TaggedFields;
    pub(crate) use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Records, Str, Uuid};
}
