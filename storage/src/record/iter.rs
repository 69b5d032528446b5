//! Reading the records of a batch, for those who need the records themselves: coordinators, compaction, tools, tests.

use bytes::{Buf, Bytes};

use super::body::{Malformed, RecordBody, read_header};
use super::codec::{self, Codec, CodecError};
use super::header::{BatchError, BatchHeader, HEADER_BYTES};
use crate::model::{Offset, Sequence, TimestampType};

/// Why the records of a batch cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordsError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("record {index}: {what}")]
    Record { index: u32, what: Malformed },
}

/// A record. Key and value share the batch's memory, or that of its decompressed records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: Offset,
    /// Milliseconds.
    pub timestamp: i64,
    /// `Sequence::NONE` without a producer.
    pub sequence: Sequence,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// A record's headers, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers {
    bytes: Bytes,
    count: u32,
}

impl Headers {
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keys (UTF-8 by Kafka's rules, unchecked) and values.
    pub fn iter(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + '_ {
        let mut rest: &[u8] = &self.bytes;
        (0..self.count).map_while(move |_| {
            let (key, value) = read_header(&mut rest).ok()?;
            Some((self.bytes.slice_ref(key), value.map(|v| self.bytes.slice_ref(v))))
        })
    }
}

/// The records of one batch, in order. Ends after the first error.
pub struct RecordIter {
    header: BatchHeader,
    rest: Bytes,
    next: u32,
    count: u32,
}

impl RecordIter {
    /// Reads the whole batch `batch`; what follows it is ignored. The CRC is not checked. Compressed records are
    /// decompressed at once, to at most `limit` bytes; others are not copied. Internal batches have no records.
    pub fn new(batch: &Bytes, limit: usize) -> Result<RecordIter, RecordsError> {
        let (header, whole) = BatchHeader::split(batch)?;
        let records = batch.slice(HEADER_BYTES..whole.len());
        let count = u32::try_from(header.count).unwrap_or(0);
        let rest = match header.compression()? {
            _ if count == 0 => Bytes::new(),
            Codec::None => records,
            codec => Bytes::from(codec::decompress(codec, &records, limit)?),
        };
        Ok(RecordIter { header, rest, next: 0, count })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read(&mut self) -> Result<Record, Malformed> {
        let mut rest: &[u8] = &self.rest;
        let body = RecordBody::read(&mut rest)?;
        let used = self.rest.len() - rest.len();
        let slice = |part: &[u8]| self.rest.slice_ref(part);
        let header = &self.header;
        let record = Record {
            offset: header.base_offset + i64::from(body.offset_delta),
            timestamp: match header.timestamp_type() {
                TimestampType::CreateTime => header.base_timestamp.wrapping_add(body.timestamp_delta),
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            sequence: match (header.base_sequence, u32::try_from(body.offset_delta)) {
                (Sequence(base), Ok(delta)) if base >= 0 => header.base_sequence.plus(delta),
                _ => Sequence::NONE,
            },
            key: body.key.map(slice),
            value: body.value.map(slice),
            headers: Headers { bytes: slice(body.headers), count: body.header_count },
        };
        self.rest.advance(used);
        Ok(record)
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let mut result = self.read();
        if self.next == self.count && !self.rest.is_empty() && result.is_ok() {
            result = Err(Malformed("bytes after the last record"));
        }
        Some(result.map_err(|what| {
            self.next = self.count;
            RecordsError::Record { index, what }
        }))
    }
}
