//! The 61 bytes in front of every batch.

use bytes::Bytes;

use super::codec::Codec;
use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence, Term, TimestampType};

/// Bytes before the records of a batch.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length: what stands before the bytes that `length` counts.
pub const BASE_OFFSET_SPAN: usize = 12;
/// The one record format there is since Kafka 4.0.
pub const MAGIC: i8 = 2;

pub(super) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
/// The bits that mean something.
pub(crate) const KNOWN_ATTRIBUTES: i16 = 0x7f;

const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Why bytes are not a record batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header says.
    #[error("{have} bytes where a batch of {need} starts")]
    Truncated { have: usize, need: usize },
    #[error("batch length {0} is less than its header's")]
    Length(i32),
    #[error("record format {0}, only 2 is known")]
    Magic(i8),
    #[error("record count {0}")]
    Count(i32),
    #[error("last offset delta {0}")]
    OffsetDelta(i32),
    #[error("CRC is {stored:#010x} in the batch, {computed:#010x} of its bytes")]
    Crc { stored: u32, computed: u32 },
    #[error("compression codec {0}")]
    Codec(i16),
}

/// A batch's header, as it stands in its first 61 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field; the whole batch has 12 more (`size`).
    pub length: i32,
    /// Kafka's `partitionLeaderEpoch`; -1 from clients.
    pub leader_epoch: i32,
    /// Always 2.
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    /// Last offset minus base offset: -1 only in internal batches, which have no record and take no offset.
    pub last_offset_delta: i32,
    /// Milliseconds; with `delete_horizon` set it is the horizon, and records' deltas still count from it.
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    /// Records in the batch: compaction can leave fewer than its offsets.
    pub count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|b| b.first_chunk::<N>()).copied().unwrap_or([0; N])
}

/// What the first bytes of a batch say of its length.
pub(super) fn length_at_start(bytes: &[u8]) -> Option<i32> {
    let span = bytes.first_chunk::<BASE_OFFSET_SPAN>()?;
    Some(i32::from_be_bytes(array(span, 8)))
}

impl BatchHeader {
    /// Reads a header; `bytes` may end right after it. Checks the format, that the length covers the header, that counts are
    /// not negative. The CRC, and that the batch is whole, are checked by `verify_crc`.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header = BatchHeader::read(bytes)?;
        if header.count < 0 {
            return Err(BatchError::Count(header.count));
        }
        if header.last_offset_delta < -1 {
            return Err(BatchError::OffsetDelta(header.last_offset_delta));
        }
        Ok(header)
    }

    /// The same, whatever counts it says.
    pub fn read(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        let length = i32::from_be_bytes(array(head, 8));
        // The magic stands at the same place in every format, and an older batch may be shorter than our header.
        let [magic] = array::<1>(head, MAGIC_AT).map(|b| b as i8);
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        if length < (HEADER_BYTES - BASE_OFFSET_SPAN) as i32 {
            return Err(BatchError::Length(length));
        }
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(array(head, 0))),
            length,
            leader_epoch: i32::from_be_bytes(array(head, 12)),
            magic,
            crc: u32::from_be_bytes(array(head, CRC_AT)),
            attributes: i16::from_be_bytes(array(head, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(head, 23)),
            base_timestamp: i64::from_be_bytes(array(head, 27)),
            max_timestamp: i64::from_be_bytes(array(head, 35)),
            producer_id: ProducerId(i64::from_be_bytes(array(head, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(array(head, 51))),
            base_sequence: Sequence(i32::from_be_bytes(array(head, 53))),
            count: i32::from_be_bytes(array(head, 57)),
        })
    }

    /// Reads the header of a batch that must be whole, and gives the batch without what follows it.
    pub fn split(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), BatchError> {
        let header = BatchHeader::parse(bytes)?;
        match bytes.get(..header.size()) {
            Some(batch) => Ok((header, batch)),
            None => Err(BatchError::Truncated { have: bytes.len(), need: header.size() }),
        }
    }

    /// Checks that `batch` starts with the whole batch of this header, and its CRC-32C (attributes to end).
    pub fn verify_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        self.expect_crc(crc32c::crc32c(self.summed(batch)?))
    }

    /// What the CRC-32C is of.
    pub(crate) fn summed<'a>(&self, batch: &'a [u8]) -> Result<&'a [u8], BatchError> {
        batch.get(ATTRIBUTES_AT..self.size()).ok_or(BatchError::Truncated { have: batch.len(), need: self.size() })
    }

    pub(crate) fn expect_crc(&self, computed: u32) -> Result<(), BatchError> {
        if computed != self.crc { Err(BatchError::Crc { stored: self.crc, computed }) } else { Ok(()) }
    }

    /// Writes the header as it would stand in front of its records.
    pub fn write(&self, head: &mut [u8; HEADER_BYTES]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = head.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&self.base_offset.0.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.0.to_be_bytes());
        put(&self.producer_epoch.0.to_be_bytes());
        put(&self.base_sequence.0.to_be_bytes());
        put(&self.count.to_be_bytes());
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        BASE_OFFSET_SPAN + usize::try_from(self.length).unwrap_or(0)
    }

    /// The last offset the batch takes; one less than `base_offset` for an internal batch.
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// The sequence of the last record, `Sequence::NONE` without a producer.
    pub fn last_sequence(&self) -> Sequence {
        match (self.base_sequence, u32::try_from(self.last_offset_delta)) {
            (Sequence::NONE, _) | (_, Err(_)) => self.base_sequence,
            (base, Ok(delta)) => base.plus(delta),
        }
    }

    pub fn compression(&self) -> Result<Codec, BatchError> {
        Codec::from_attributes(self.attributes)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME != 0 { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    pub(crate) fn set_timestamp_type(&mut self, timestamps: TimestampType) {
        match timestamps {
            TimestampType::CreateTime => self.attributes &= !LOG_APPEND_TIME,
            TimestampType::LogAppendTime => self.attributes |= LOG_APPEND_TIME,
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id.is_some()
    }

    /// When compaction may drop the tombstones of this batch, ms; `None` before its first pass (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Records' timestamp deltas count from the horizon from now on.
    pub(crate) fn set_delete_horizon(&mut self, horizon_ms: i64) {
        self.attributes |= DELETE_HORIZON;
        self.base_timestamp = horizon_ms;
    }

    /// True for a batch of ours that takes no offset (`internal`): clients cannot send one, Kafka does not write one.
    pub fn is_internal(&self) -> bool {
        self.is_control() && self.count == 0 && self.last_offset_delta == -1
    }

    pub fn term(&self) -> Option<Term> {
        Term::from_leader_epoch(self.leader_epoch)
    }

    pub(crate) fn attributes_for(
        codec: Codec,
        timestamps: TimestampType,
        transactional: bool,
        control: bool,
        delete_horizon: bool,
    ) -> i16 {
        let bit = |on: bool, bit: i16| if on { bit } else { 0 };
        codec.bits()
            | bit(timestamps == TimestampType::LogAppendTime, LOG_APPEND_TIME)
            | bit(transactional, TRANSACTIONAL)
            | bit(control, CONTROL)
            | bit(delete_horizon, DELETE_HORIZON)
    }
}

/// Gives the batch that `batch` starts with its place in the log. Both fields lie outside the CRC. Does nothing to fewer
/// than 61 bytes.
pub fn patch_base_offset_and_epoch(batch: &mut [u8], base_offset: Offset, term: Term) {
    let Some(head) = batch.first_chunk_mut::<HEADER_BYTES>() else { return };
    if let Some(place) = head.first_chunk_mut::<8>() {
        *place = base_offset.0.to_be_bytes();
    }
    if let Some(place) = head.get_mut(12..MAGIC_AT) {
        place.copy_from_slice(&term.leader_epoch().to_be_bytes());
    }
}

/// Writes `length` and the CRC into the finished batch `batch`.
pub(crate) fn seal(batch: &mut [u8]) {
    let length = (batch.len().saturating_sub(BASE_OFFSET_SPAN)) as i32;
    if let Some(place) = batch.get_mut(8..BASE_OFFSET_SPAN) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    let crc = crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default());
    if let Some(place) = batch.get_mut(CRC_AT..ATTRIBUTES_AT) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
}

/// The batches in a buffer, in order, without copying. Ends after the first error; a partial batch at the end is
/// `BatchError::Truncated`.
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    pub fn new(bytes: Bytes) -> Batches {
        Batches { rest: bytes }
    }

    /// What has not been given out; nothing after an error.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bad = match BatchHeader::split(&self.rest) {
            Ok((header, batch)) => {
                let size = batch.len();
                return Some(Ok((header, self.rest.split_to(size))));
            }
            Err(bad) => bad,
        };
        self.rest = Bytes::new();
        Some(Err(bad))
    }
}

#[cfg(test)]
mod tests;
