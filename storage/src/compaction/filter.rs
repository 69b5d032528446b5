//! What compaction leaves of one batch (Kafka's `Cleaner.cleanInto` with `MemoryRecords.filterTo`).
//!
//! | record                                                     | stays                                            |
//! |------------------------------------------------------------|--------------------------------------------------|
//! | at or behind the map's end                                 | yes                                              |
//! | with a later one of its key in the map                     | no                                               |
//! | the last of its key, with a value                          | yes                                              |
//! | the last of its key, a tombstone                           | until its batch's delete horizon has passed      |
//! | without a key                                              | no                                               |
//! | of a control batch                                         | until its transaction has no batch left and the horizon has passed |
//!
//! A batch with tombstones gets its horizon, now + `delete.retention.ms`, in the pass that first sees them; a later pass removes
//! them. A batch without survivors stays, empty, if it is the last one of its producer or of its segment: sequences live on
//! in it, and a segment ends where the next one begins. Offsets, timestamps and sequences never change.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use hashbrown::HashSet;

use super::offset_map::OffsetMap;
use crate::model::{Offset, ProducerId, TimestampType};
use crate::record::codec::{self, Codec};
use crate::record::{BatchHeader, HEADER_BYTES, RecordBody, RecordsError, TransactionMarker, seal};

/// Decompressed records of one batch.
pub(super) const RECORDS_BYTES_MAX: usize = 256 << 20;

/// What becomes of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    AsItIs,
    /// Written anew, with fewer records or with a horizon.
    Changed(Bytes),
    Gone,
}

/// Decides over the batches of a log, which it is shown in their order.
pub(super) struct Filter<'a> {
    map: &'a OffsetMap,
    now_ms: i64,
    delete_retention_ms: i64,
    /// Where the segment being made ends.
    pub(super) segment_end: Offset,
    /// Producers with transactional batches since their last marker.
    open: HashSet<ProducerId>,
}

impl<'a> Filter<'a> {
    pub(super) fn new(map: &'a OffsetMap, now_ms: i64, delete_retention_ms: i64) -> Filter<'a> {
        Filter { map, now_ms, delete_retention_ms, segment_end: map.next(), open: HashSet::new() }
    }

    /// What is left of a whole batch that is not internal. `last_of_producer`: nothing later of its producer is known.
    pub(super) fn pass(
        &mut self,
        header: &BatchHeader,
        batch: &Bytes,
        last_of_producer: bool,
    ) -> Result<Fate, RecordsError> {
        let marker_of_nothing = self.is_marker_of_nothing(header, batch);
        let horizon_passed = header.delete_horizon().is_some_and(|horizon| horizon <= self.now_ms);
        let kept = if header.is_control() {
            let kept = if marker_of_nothing && horizon_passed { Kept::default() } else { Kept::whole(header) };
            Kept { needs_horizon: marker_of_nothing, ..kept }
        } else {
            self.survivors(header, batch, horizon_passed)?
        };
        let horizon = (kept.needs_horizon && header.delete_horizon().is_none())
            .then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        if kept.count > 0 {
            return match (kept.count == header.count, horizon) {
                (true, None) => Ok(Fate::AsItIs),
                _ => rewrite(header, batch, kept, horizon).map(Fate::Changed),
            };
        }
        let last_of_segment = header.next_offset() == self.segment_end;
        Ok(match last_of_producer || last_of_segment {
            true if header.count == 0 => Fate::AsItIs,
            true => Fate::Changed(empty(header)),
            false => Fate::Gone,
        })
    }

    /// True for a marker that ends a transaction of which no batch is left.
    fn is_marker_of_nothing(&mut self, header: &BatchHeader, batch: &[u8]) -> bool {
        match (header.is_control(), header.is_transactional()) {
            (true, _) => TransactionMarker::of(header, batch).is_some() && !self.open.remove(&header.producer_id),
            (false, true) => {
                self.open.insert(header.producer_id);
                false
            }
            (false, false) => false,
        }
    }

    fn survivors(&self, header: &BatchHeader, batch: &[u8], horizon_passed: bool) -> Result<Kept, RecordsError> {
        let mut kept = Kept { max_timestamp: -1, ..Kept::default() };
        if header.count == 0 {
            return Ok(kept);
        }
        let packed = batch.get(HEADER_BYTES..).unwrap_or_default();
        let log_append = header.timestamp_type() == TimestampType::LogAppendTime;
        codec::with_decompressed(header.compression()?, packed, RECORDS_BYTES_MAX, |mut rest| {
            for index in 0..u32::try_from(header.count).unwrap_or(0) {
                let before = rest;
                let record = RecordBody::read(&mut rest).map_err(|what| RecordsError::Record { index, what })?;
                let offset = header.base_offset + i64::from(record.offset_delta);
                if !self.stays(&record, offset, horizon_passed) {
                    continue;
                }
                kept.records.extend_from_slice(before.get(..before.len() - rest.len()).unwrap_or_default());
                kept.count += 1;
                kept.needs_horizon |= record.value.is_none();
                kept.max_timestamp = match log_append {
                    true => header.max_timestamp,
                    false => kept.max_timestamp.max(header.base_timestamp.wrapping_add(record.timestamp_delta)),
                };
            }
            Ok::<(), RecordsError>(())
        })??;
        Ok(kept)
    }

    fn stays(&self, record: &RecordBody<'_>, offset: Offset, horizon_passed: bool) -> bool {
        if offset >= self.map.next() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let last = self.map.get(key).is_none_or(|last| offset >= last);
        last && (record.value.is_some() || !horizon_passed)
    }
}

/// The records of a batch that stay.
#[derive(Default)]
struct Kept {
    /// As they stand in the batch, decompressed; not filled in for control batches.
    records: Vec<u8>,
    count: i32,
    max_timestamp: i64,
    /// There is something among them that goes when a horizon has passed.
    needs_horizon: bool,
}

impl Kept {
    /// All of a control batch, which is never compressed.
    fn whole(header: &BatchHeader) -> Kept {
        Kept { count: header.count, max_timestamp: header.max_timestamp, ..Kept::default() }
    }
}

/// The batch with the records that stay, in its own codec.
fn rewrite(header: &BatchHeader, batch: &[u8], kept: Kept, horizon: Option<i64>) -> Result<Bytes, RecordsError> {
    let mut records = match header.is_control() {
        true => batch.get(HEADER_BYTES..).unwrap_or_default().to_vec(),
        false => kept.records,
    };
    let mut new = BatchHeader { count: kept.count, max_timestamp: kept.max_timestamp, ..*header };
    if let Some(horizon) = horizon {
        new.set_delete_horizon(horizon);
        records = rebase(&records, header.base_timestamp, horizon, header.count)?;
    }
    let codec = header.compression()?;
    let mut out = Vec::with_capacity(HEADER_BYTES + if codec == Codec::None { records.len() } else { 0 });
    put_header(&new, &mut out);
    codec::compress(codec.into(), &records, &mut out)?;
    seal(&mut out);
    Ok(Bytes::from(out))
}

/// The records with timestamps counted from `to` instead of `from`.
fn rebase(mut records: &[u8], from: i64, to: i64, count: i32) -> Result<Vec<u8>, RecordsError> {
    let mut out = Vec::with_capacity(records.len() + 8 * count.max(0) as usize);
    let mut index = 0;
    while !records.is_empty() {
        let record = RecordBody::read(&mut records).map_err(|what| RecordsError::Record { index, what })?;
        let timestamp = from.wrapping_add(record.timestamp_delta);
        RecordBody { timestamp_delta: timestamp.wrapping_sub(to), ..record }.write(&mut out);
        index += 1;
    }
    Ok(out)
}

/// The batch without its records: what it says of its producer and its offsets (`DefaultRecordBatch.writeEmptyHeader`).
fn empty(header: &BatchHeader) -> Bytes {
    let attributes = BatchHeader::attributes_for(
        Codec::None,
        header.timestamp_type(),
        header.is_transactional(),
        header.is_control(),
        false,
    );
    let mut out = Vec::with_capacity(HEADER_BYTES);
    put_header(&BatchHeader { attributes, base_timestamp: -1, count: 0, ..*header }, &mut out);
    seal(&mut out);
    Bytes::from(out)
}

fn put_header(header: &BatchHeader, out: &mut Vec<u8>) {
    let mut head = [0; HEADER_BYTES];
    header.write(&mut head);
    out.extend_from_slice(&head);
}

#[cfg(test)]
mod tests;
