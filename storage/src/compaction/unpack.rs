//! The records of a batch, taken apart slice by slice, so that a shard does other things in between: no slice of any batch takes
//! a millisecond (as in the produce path's [`Validation::step`](crate::record::Validation::step)).
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;

use crate::record::codec::{Codec, CodecError, Decompression};
use crate::record::{BatchHeader, HEADER_BYTES, RecordBody, RecordsError};

/// Decompressed records of one batch.
const RECORDS_BYTES_MAX: usize = 256 << 20;
/// Records that are looked at at a time, and their bytes.
const WALK_RECORDS: usize = 1024;
pub(super) const WALK_BYTES: usize = 256 << 10;

/// The records of a batch, uncompressed.
pub(super) enum Unpacked {
    /// As they stand in the batch.
    Stored(Bytes),
    Decompressed(Box<Decompression>),
}

impl Unpacked {
    pub(super) fn of(header: &BatchHeader, batch: &Bytes) -> Result<Unpacked, RecordsError> {
        let records = batch.slice(HEADER_BYTES.min(batch.len())..);
        Ok(match header.compression()? {
            Codec::None => Unpacked::Stored(records),
            codec => Unpacked::Decompressed(Box::new(Decompression::new(codec, records, RECORDS_BYTES_MAX)?)),
        })
    }

    /// Makes the next slice; true when all is there.
    pub(super) fn step(&mut self) -> Result<bool, CodecError> {
        match self {
            Unpacked::Stored(_) => Ok(true),
            Unpacked::Decompressed(decompression) => decompression.step(),
        }
    }

    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Unpacked::Stored(records) => records,
            Unpacked::Decompressed(decompression) => decompression.output.bytes(),
        }
    }
}

/// A walk over the records of a batch.
pub(super) struct Walk {
    at: usize,
    index: u32,
    count: u32,
}

impl Walk {
    pub(super) fn over(header: &BatchHeader) -> Walk {
        Walk { at: 0, index: 0, count: u32::try_from(header.count).unwrap_or(0) }
    }

    /// Shows some records, each with its bytes, to `look`; true at the end, or when `look` has said that it is.
    pub(super) fn step(
        &mut self,
        records: &[u8],
        mut look: impl FnMut(&RecordBody<'_>, &[u8]) -> bool,
    ) -> Result<bool, RecordsError> {
        let begin = self.at;
        for _ in 0..WALK_RECORDS {
            if self.index == self.count || self.at - begin >= WALK_BYTES {
                break;
            }
            let before = records.get(self.at..).unwrap_or_default();
            let mut rest = before;
            let index = self.index;
            let record = RecordBody::read(&mut rest).map_err(|what| RecordsError::Record { index, what })?;
            let length = before.len() - rest.len();
            self.index += 1;
            self.at += length;
            if !look(&record, before.get(..length).unwrap_or_default()) {
                return Ok(true);
            }
        }
        Ok(self.index == self.count)
    }
}
