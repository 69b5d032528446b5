//! What compaction leaves of one batch (Kafka's `Cleaner.cleanInto` with `MemoryRecords.filterTo`).
//!
//! | record                                                     | stays                                            |
//! |------------------------------------------------------------|--------------------------------------------------|
//! | at or behind the map's end                                 | yes                                              |
//! | with a later one of its key in the map                     | no                                               |
//! | the last of its key, with a value                          | yes                                              |
//! | the last of its key, a tombstone                           | until its batch's delete horizon has passed      |
//! | without a key                                              | no                                               |
//! | of an aborted transaction                                  | no                                               |
//! | of a control batch                                         | until its transaction has no batch left and the horizon has passed |
//!
//! A batch with tombstones gets its horizon, now + `delete.retention.ms`, in the pass that first sees them; a later pass removes
//! them. A batch without survivors stays, empty, if it is the last one of its producer or of its segment: sequences live on
//! in it, and a segment ends where the next one begins. Offsets, timestamps and sequences never change.
//!
//! A large batch goes through in slices ([`Filter::step`]).
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use hashbrown::HashSet;

use super::offset_map::OffsetMap;
use super::transactions::Outcomes;
use super::unpack::{Unpacked, WALK_BYTES, Walk};
use crate::model::{Offset, ProducerId, TimestampType};
use crate::record::codec::{Codec, Compressor};
use crate::record::{BatchHeader, HEADER_BYTES, RecordBody, RecordsError, TransactionMarker, seal};

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
    outcomes: &'a Outcomes,
    now_ms: i64,
    delete_retention_ms: i64,
    /// Where the segment being made ends.
    pub(super) segment_end: Offset,
    /// Producers with transactional batches since their last marker.
    open: HashSet<ProducerId>,
}

/// A batch on its way through the filter.
pub(super) struct Passing {
    header: BatchHeader,
    batch: Bytes,
    horizon_passed: bool,
    /// It stays, empty, if no record does.
    stays_empty: bool,
    unpacked: Unpacked,
    kept: Kept,
    stage: Stage,
}

enum Stage {
    Unpack,
    Walk(Walk),
    Judge,
    /// The records' timestamps are counted from the horizon.
    Rebase {
        new: BatchHeader,
        at: usize,
        out: Vec<u8>,
    },
    /// `None` while it takes a slice.
    Compress {
        records: Vec<u8>,
        compressor: Option<Box<Compressor>>,
    },
}

impl<'a> Filter<'a> {
    pub(super) fn new(map: &'a OffsetMap, outcomes: &'a Outcomes, now_ms: i64, delete_retention_ms: i64) -> Filter<'a> {
        Filter { map, outcomes, now_ms, delete_retention_ms, segment_end: map.next(), open: HashSet::new() }
    }

    /// Begins with a whole batch that is not internal. `last_of_producer`: nothing later of its producer is known.
    pub(super) fn begin(
        &mut self,
        header: &BatchHeader,
        batch: &Bytes,
        last_of_producer: bool,
    ) -> Result<Passing, RecordsError> {
        let marker_of_nothing = self.is_marker_of_nothing(header, batch);
        let horizon_passed = header.delete_horizon().is_some_and(|horizon| horizon <= self.now_ms);
        let aborted = header.next_offset() <= self.map.next() && self.outcomes.is_aborted(header);
        let (kept, stage) = if header.is_control() {
            let kept = if marker_of_nothing && horizon_passed { Kept::default() } else { Kept::whole(header) };
            (Kept { needs_horizon: marker_of_nothing, ..kept }, Stage::Judge)
        } else if aborted || header.count == 0 {
            (Kept::default(), Stage::Judge)
        } else {
            (Kept { max_timestamp: -1, ..Kept::default() }, Stage::Unpack)
        };
        Ok(Passing {
            header: *header,
            batch: batch.clone(),
            horizon_passed,
            stays_empty: last_of_producer || header.next_offset() == self.segment_end,
            unpacked: Unpacked::of(header, batch)?,
            kept,
            stage,
        })
    }

    /// Goes on by one slice; what is left of the batch when that was the last one.
    pub(super) fn step(&self, passing: &mut Passing) -> Result<Option<Fate>, RecordsError> {
        let Passing { header, unpacked, kept, .. } = passing;
        match &mut passing.stage {
            Stage::Unpack => {
                if unpacked.step()? {
                    kept.records.reserve_exact(unpacked.bytes().len());
                    passing.stage = Stage::Walk(Walk::over(header));
                }
            }
            Stage::Walk(walk) => {
                let horizon_passed = passing.horizon_passed;
                let ended = walk.step(unpacked.bytes(), |record, bytes| {
                    let offset = header.base_offset + i64::from(record.offset_delta);
                    if self.stays(record, offset, horizon_passed) {
                        kept.take_in(header, record, bytes);
                    }
                    true
                })?;
                if ended {
                    passing.stage = Stage::Judge;
                }
            }
            Stage::Judge => return self.judge(passing),
            Stage::Rebase { new, at, out } => {
                if rebase(&kept.records, header.base_timestamp, new.base_timestamp, at, out)? {
                    let (new, records) = (*new, std::mem::take(out));
                    passing.stage = compress(&new, records)?;
                }
            }
            Stage::Compress { records, compressor: slot } => {
                let Some(mut compressor) = slot.take() else { unreachable!("it is put back until it is done") };
                if compressor.step(records)? {
                    let mut out = compressor.finish()?;
                    seal(&mut out);
                    return Ok(Some(Fate::Changed(Bytes::from(out))));
                }
                *slot = Some(compressor);
            }
        }
        Ok(None)
    }

    /// When it is known what stays.
    fn judge(&self, passing: &mut Passing) -> Result<Option<Fate>, RecordsError> {
        let Passing { header, batch, kept, .. } = passing;
        let horizon = (kept.needs_horizon && header.delete_horizon().is_none())
            .then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        if kept.count == 0 {
            return Ok(Some(match passing.stays_empty {
                true if header.count == 0 => Fate::AsItIs,
                true => Fate::Changed(empty(header)),
                false => Fate::Gone,
            }));
        }
        if kept.count == header.count && horizon.is_none() {
            return Ok(Some(Fate::AsItIs));
        }
        if header.is_control() {
            kept.records = batch.get(HEADER_BYTES..).unwrap_or_default().to_vec();
        }
        let mut new = BatchHeader { count: kept.count, max_timestamp: kept.max_timestamp, ..*header };
        passing.stage = match horizon {
            Some(horizon) => {
                new.set_delete_horizon(horizon);
                let out = Vec::with_capacity(kept.records.len() + 8 * kept.count.max(0) as usize);
                Stage::Rebase { new, at: 0, out }
            }
            None => compress(&new, std::mem::take(&mut kept.records))?,
        };
        Ok(None)
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
    fn take_in(&mut self, header: &BatchHeader, record: &RecordBody<'_>, bytes: &[u8]) {
        self.records.extend_from_slice(bytes);
        self.count += 1;
        self.needs_horizon |= record.value.is_none();
        self.max_timestamp = match header.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => {
                self.max_timestamp.max(header.base_timestamp.wrapping_add(record.timestamp_delta))
            }
        };
    }

    /// All of a control batch, which is never compressed.
    fn whole(header: &BatchHeader) -> Kept {
        Kept { count: header.count, max_timestamp: header.max_timestamp, ..Kept::default() }
    }
}

/// Begins the batch with the records that stay, in its own codec.
fn compress(new: &BatchHeader, records: Vec<u8>) -> Result<Stage, RecordsError> {
    let codec = new.compression()?;
    let mut out = Vec::with_capacity(HEADER_BYTES + if codec == Codec::None { records.len() } else { 0 });
    put_header(new, &mut out);
    let compressor = Compressor::new(codec.into(), records.len(), out)?;
    Ok(Stage::Compress { records, compressor: Some(Box::new(compressor)) })
}

/// Appends some of the records from `at` on to `out`, with timestamps counted from `to` instead of `from`; true at the end.
fn rebase(records: &[u8], from: i64, to: i64, at: &mut usize, out: &mut Vec<u8>) -> Result<bool, RecordsError> {
    let before = records.get(*at..).unwrap_or_default();
    let mut rest = before;
    while !rest.is_empty() && before.len() - rest.len() < WALK_BYTES {
        let record = RecordBody::read(&mut rest).map_err(|what| RecordsError::Record { index: 0, what })?;
        let timestamp = from.wrapping_add(record.timestamp_delta);
        RecordBody { timestamp_delta: timestamp.wrapping_sub(to), ..record }.write(out);
    }
    *at = records.len() - rest.len();
    Ok(rest.is_empty())
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
