//! Batches made here: by coordinators, the controller, the command line and tests.

use bytes::{BufMut, Bytes};

use super::body::{RecordBody, write_header};
use super::codec::{self, CodecError, Compression};
use super::header::{BatchHeader, HEADER_BYTES, MAGIC, seal};
use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence, Term, TimestampType};

/// Why a batch cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    #[error("a batch needs at least one record")]
    Empty,
    #[error("more than 2 GiB of records")]
    TooLarge,
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// How a transaction ended, as its marker tells readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionMarker {
    Abort,
    Commit,
}

impl TransactionMarker {
    /// What the control batch `batch` says; `None` if it is another kind of control batch.
    pub fn of(header: &BatchHeader, batch: &[u8]) -> Option<TransactionMarker> {
        EndMarker::of(header, batch).map(|end| end.marker)
    }
}

/// What a transaction marker says, and who had it written (`EndTransactionMarker`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndMarker {
    pub marker: TransactionMarker,
    /// -1 where the marker does not say.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// What the control batch `batch` says; `None` if it is another kind of control batch.
    pub fn of(header: &BatchHeader, batch: &[u8]) -> Option<EndMarker> {
        let mut records = batch.get(HEADER_BYTES..).filter(|_| header.is_control() && header.count > 0)?;
        let record = RecordBody::read(&mut records).ok()?;
        let marker = match record.key? {
            [_, _, 0, 0, ..] => TransactionMarker::Abort,
            [_, _, 0, 1, ..] => TransactionMarker::Commit,
            _ => return None,
        };
        let epoch = record.value.and_then(|value| value.get(2..6)).and_then(|bytes| bytes.try_into().ok());
        Some(EndMarker { marker, coordinator_epoch: epoch.map_or(-1, i32::from_be_bytes) })
    }
}

/// Collects records and builds one batch of them.
pub struct BatchBuilder {
    compression: Compression,
    timestamps: TimestampType,
    producer: (ProducerId, ProducerEpoch, Sequence),
    transactional: bool,
    control: bool,
    records: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An uncompressed batch takes `Codec::None`; a codec alone means its default level.
    pub fn new(compression: impl Into<Compression>) -> BatchBuilder {
        BatchBuilder {
            compression: compression.into(),
            timestamps: TimestampType::CreateTime,
            producer: (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE),
            transactional: false,
            control: false,
            records: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: -1,
        }
    }

    pub fn timestamps(mut self, timestamps: TimestampType) -> BatchBuilder {
        self.timestamps = timestamps;
        self
    }

    /// The producer, its epoch and the sequence of the first record.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base: Sequence) -> BatchBuilder {
        self.producer = (id, epoch, base);
        self
    }

    pub fn transactional(mut self) -> BatchBuilder {
        self.transactional = true;
        self
    }

    /// Adds a record; `timestamp` in ms.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp, key, value, &[]);
    }

    pub fn push_with_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let mut packed = Vec::new();
        for (key, value) in headers {
            write_header(&mut packed, key.as_bytes(), *value);
        }
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let record = RecordBody {
            attributes: 0,
            timestamp_delta: timestamp.wrapping_sub(self.base_timestamp),
            offset_delta: self.count as i32,
            key,
            value,
            header_count: headers.len() as u32,
            headers: &packed,
        };
        self.records.reserve(record.size());
        record.write(&mut self.records);
        self.count += 1;
    }

    /// The one record of a batch that ends a transaction (`EndTransactionMarker`); makes this a transactional control batch.
    pub fn push_marker(&mut self, timestamp: i64, marker: TransactionMarker, coordinator_epoch: i32) {
        self.transactional = true;
        let kind: u16 = match marker {
            TransactionMarker::Abort => 0,
            TransactionMarker::Commit => 1,
        };
        let mut value = [0; 6];
        (&mut value[2..]).put_i32(coordinator_epoch);
        self.push_control(timestamp, kind, &value);
    }

    /// Adds a control record of this kind (`ControlRecordType`); makes this a control batch.
    pub(super) fn push_control(&mut self, timestamp: i64, kind: u16, value: &[u8]) {
        self.control = true;
        let mut key = [0; 4];
        (&mut key[2..]).put_u16(kind);
        self.push(timestamp, Some(&key), Some(value));
    }

    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch if it were not compressed.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch as a client would send it: base offset 0, no leader epoch.
    pub fn build(self) -> Result<Bytes, BuildError> {
        self.finish(Offset::ZERO, -1)
    }

    /// The batch with its place in a log.
    pub fn build_at(self, base_offset: Offset, term: Term) -> Result<Bytes, BuildError> {
        self.finish(base_offset, term.leader_epoch())
    }

    fn finish(self, base_offset: Offset, leader_epoch: i32) -> Result<Bytes, BuildError> {
        if self.count == 0 {
            return Err(BuildError::Empty);
        }
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let codec = self.compression.codec;
        let header = BatchHeader {
            base_offset,
            length: 0,
            leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: BatchHeader::attributes_for(codec, self.timestamps, self.transactional, self.control, false),
            last_offset_delta: (self.count - 1) as i32,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            count: self.count as i32,
        };
        let mut head = [0; HEADER_BYTES];
        header.write(&mut head);
        let mut batch = Vec::with_capacity(self.size());
        batch.extend_from_slice(&head);
        codec::compress(self.compression, &self.records, &mut batch)?;
        if batch.len() > i32::MAX as usize || self.records.len() > i32::MAX as usize {
            return Err(BuildError::TooLarge);
        }
        seal(&mut batch);
        Ok(Bytes::from(batch))
    }
}
