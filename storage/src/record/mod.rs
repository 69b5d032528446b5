//! Kafka record batches (format 2, `DefaultRecordBatch` in Kafka's clients): the only form in which records travel and lie
//! on disk. Headers are read and patched in place; records are looked at only where they must be.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod body;
mod builder;
pub mod codec;
pub mod dump;
mod first;
mod header;
pub mod internal;
mod iter;
mod snapshot;
mod validate;
mod varint;

pub use body::Malformed;
pub(crate) use body::RecordBody;
pub use builder::{BatchBuilder, BuildError, EndMarker, TransactionMarker};
pub use codec::{Codec, CodecError, Compression};
pub use first::First;
pub(crate) use header::seal;
pub use header::{
    BASE_OFFSET_SPAN, BatchError, BatchHeader, Batches, HEADER_BYTES, MAGIC, patch_base_offset_and_epoch,
};
pub use internal::{BatchKind, classify};
pub use iter::{Headers, Record, RecordIter, RecordsError};
pub use snapshot::{SnapshotDamage, SnapshotMark, snapshot_batches};
pub use validate::{
    CompressionTarget, RECORD_ERRORS_MAX, RecordError, RecordErrorCode, RecordErrors, Validated, Validation,
    ValidationContext, max_decompressed_bytes, validate,
};
