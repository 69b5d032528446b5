//! Kafka record batches (format 2, `DefaultRecordBatch` in Kafka's clients): the only form in which records travel and lie
//! on disk. Headers are read and patched in place; records are looked at only where they must be.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod header;
pub mod internal;

pub use header::{
    BASE_OFFSET_SPAN, BatchError, BatchHeader, Batches, Codec, HEADER_BYTES, MAGIC, patch_base_offset_and_epoch,
};
pub use internal::{BatchKind, classify};
