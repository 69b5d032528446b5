//! Looking up offsets by time: always the exact record, not its batch.

use std::rc::Rc;

use super::cursor::{Cursor, CursorBatch};
use super::seek::Seek;
use super::{Log, LogInner};
use crate::error::StorageError;
use crate::model::{Offset, Term};
use crate::record::RecordIter;
use crate::segment::Times;

/// Decompressed records of one batch.
const RECORDS_BYTES_MAX: usize = 256 << 20;

/// A record's offset, its timestamp and the leader epoch that wrote it.
pub type TimedOffset = (Offset, i64, Term);

impl Log {
    /// The first record at or after `timestamp` ms, before `upto`.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: i64,
        upto: Offset,
    ) -> Result<Option<TimedOffset>, StorageError> {
        self.0.unchanged(async || self.first_at(timestamp, upto).await).await
    }

    async fn first_at(&self, timestamp: i64, upto: Offset) -> Result<Option<TimedOffset>, StorageError> {
        for base in self.0.segments_between_bounds(upto) {
            let Some((times, end)) = self.0.times(base).await? else { continue };
            if times.max_timestamp < timestamp {
                continue;
            }
            let log_start = u32::try_from(self.bounds().log_start - base).unwrap_or(0);
            let seek = Seek::Time { timestamp, log_start };
            let Some((mut cursor, _)) = Cursor::seek(&self.0, base, seek, (base, end), 0).await? else { continue };
            while let Some(batch) = cursor.next().await? {
                let log_start = self.bounds().log_start;
                let header = &batch.header;
                if header.count == 0 || header.max_timestamp < timestamp || header.last_offset() < log_start {
                    continue;
                }
                if header.base_offset >= upto {
                    return Ok(None);
                }
                let found = self.0.first_record(&batch, log_start, upto, timestamp)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The first of the records with the largest timestamp, before `upto`.
    pub async fn max_timestamp(&self, upto: Offset) -> Result<Option<TimedOffset>, StorageError> {
        self.0.unchanged(async || self.latest(upto).await).await
    }

    async fn latest(&self, upto: Offset) -> Result<Option<TimedOffset>, StorageError> {
        let mut best: Option<(Times, Offset)> = None;
        for base in self.0.segments_between_bounds(upto) {
            let times = self.0.times_between_bounds(base, upto).await?;
            if times.max_timestamp > best.map_or(i64::MIN, |(t, _)| t.max_timestamp) {
                best = Some((times, base));
            }
        }
        let Some((times, base)) = best else { return Ok(None) };
        let mut cursor = Cursor::one_batch(self.0.clone(), (base, times.position));
        match cursor.next().await? {
            Some(batch) => self.0.first_record(&batch, self.bounds().log_start, upto, times.max_timestamp),
            None => Ok(None),
        }
    }
}

impl LogInner {
    /// Segments with offsets in `[log start, upto)`.
    fn segments_between_bounds(&self, upto: Offset) -> Vec<Offset> {
        let state = self.state.borrow();
        let first = state.segment_number(state.log_start);
        state.segments.iter().skip(first).map(|s| s.base_offset).take_while(|base| *base < upto).collect()
    }

    /// A segment's largest timestamp, and its size; `None` if it is gone.
    async fn times(self: &Rc<Self>, base: Offset) -> Result<Option<(Times, u32)>, StorageError> {
        self.load_times(base).await?;
        let state = self.state.borrow();
        Ok(state.segment_at(base).and_then(|s| Some((s.times?, s.size))))
    }

    /// As `times`, of the part of the segment that readers see.
    async fn times_between_bounds(self: &Rc<Self>, base: Offset, upto: Offset) -> Result<Times, StorageError> {
        let Some((times, size)) = self.times(base).await? else { return Ok(Times::NONE) };
        if times == Times::NONE {
            return Ok(times);
        }
        let (log_start, end) = {
            let state = self.state.borrow();
            let next = state.segments.get(state.segment_number(base) + 1).map_or(state.log_end, |s| s.base_offset);
            (state.log_start, next)
        };
        if log_start <= base && end <= upto {
            return Ok(times);
        }
        let inside = |batch: &CursorBatch| {
            batch.header.count > 0 && batch.header.last_offset() >= log_start && batch.header.next_offset() <= upto
        };
        if Cursor::one_batch(self.clone(), (base, times.position)).next().await?.is_some_and(|batch| inside(&batch)) {
            return Ok(times);
        }
        // The largest is outside: look at what is inside, from the last index entry on where that is enough.
        let delta = |offset: Offset| u32::try_from((offset - base).max(0)).unwrap_or(u32::MAX);
        let from = if log_start <= base { upto } else { log_start };
        let place = (base, size);
        let Some((mut cursor, floor)) = Cursor::seek(self, base, Seek::Offset(delta(from)), place, 0).await? else {
            return Ok(Times::NONE);
        };
        let mut best = Times::NONE;
        while let Some(batch) = cursor.next().await?.filter(|b| b.header.base_offset < upto) {
            if inside(&batch) {
                best.see(batch.header.max_timestamp, batch.position);
            }
        }
        let before = floor.entry.filter(|_| log_start <= base).map_or(i64::MIN, |e| e.max_timestamp);
        if before < best.max_timestamp || before == i64::MIN {
            return Ok(best);
        }
        let seek = Seek::Time { timestamp: before, log_start: 0 };
        let Some((mut cursor, _)) = Cursor::seek(self, base, seek, place, 0).await? else { return Ok(best) };
        while let Some(batch) = cursor.next().await? {
            if inside(&batch) && batch.header.max_timestamp >= before {
                return Ok(Times { max_timestamp: batch.header.max_timestamp, position: batch.position });
            }
        }
        Ok(best)
    }

    /// The first record of the batch in `[log_start, upto)` with that timestamp or a later one.
    fn first_record(
        &self,
        batch: &CursorBatch,
        log_start: Offset,
        upto: Offset,
        timestamp: i64,
    ) -> Result<Option<TimedOffset>, StorageError> {
        let damaged = |e: &dyn std::fmt::Display| self.corrupt(batch.segment, batch.position, e.to_string());
        for record in RecordIter::new(&batch.bytes, RECORDS_BYTES_MAX).map_err(|e| damaged(&e))? {
            let record = record.map_err(|e| damaged(&e))?;
            if record.timestamp >= timestamp && record.offset >= log_start && record.offset < upto {
                return Ok(Some((record.offset, record.timestamp, batch.header.term().unwrap_or(Term(0)))));
            }
        }
        Ok(None)
    }
}
