//! The age of a segment (Kafka's `LogSegment.timeWaitedForRoll`): told by the records' timestamps, so that data of long ago
//! lies in segments of its own time, and no clock is read for it.

use std::rc::Rc;

use core_pinning::{Queue, spawn, time};

use super::cursor::Cursor;
use super::{LogInner, LogState};
use crate::error::StorageError;
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::record::internal::SEGMENT_HEADER_BYTES;

impl LogState {
    /// True if the batch is so much later than the first one of the active segment that it belongs into a new one.
    pub(super) fn is_old_for(&self, header: &BatchHeader) -> bool {
        if header.count == 0 {
            return false;
        }
        let (active, config) = (self.active(), &self.config);
        let limit = match config.cleanup.compact && config.max_compaction_lag_ms > 0 {
            true => config.segment_ms.min(config.max_compaction_lag_ms),
            false => config.segment_ms,
        };
        match active.first_timestamp {
            Some(first) if first >= 0 => header.max_timestamp.saturating_sub(first) > limit,
            // Records without timestamps.
            Some(_) => active.start.is_some_and(|s| time::wall_ms().saturating_sub(s.created_ms) > limit),
            None => false,
        }
    }
}

impl LogState {
    /// If everything before the active segment is applied and nothing in it, the point is the one at its beginning.
    pub(crate) fn settle_applied(&mut self) {
        let active = self.active();
        let base = active.base_offset;
        if self.applied.segment < base && active.start.is_some_and(|s| s.base_index == self.applied.next_index) {
            self.applied.segment = base;
            self.applied.position = SEGMENT_HEADER_BYTES as u32;
            self.state_file_current = false;
        }
    }
}

impl LogInner {
    /// Has the time looked up that the age of the active segment counts from, if it was written by an earlier run.
    pub(super) fn learn_age(self: &Rc<Self>, state: &LogState) {
        let active = state.active();
        if active.first_timestamp.is_some() || active.base_offset == state.log_end || self.marks.aging.replace(true) {
            return;
        }
        let (log, base) = (self.clone(), active.base_offset);
        let learn = async move {
            if let Err(error) = log.first_timestamp(base).await {
                tracing::warn!(topic = %log.topic, partition = log.key.partition, %error, "a segment's age is not known");
            }
            log.marks.aging.set(false);
        };
        spawn(Queue::Background, "segment age", learn).detach();
    }

    /// The largest timestamp of the segment's first batch with records; `None` if there is none, or no such segment.
    pub(crate) async fn first_timestamp(self: &Rc<Self>, base: Offset) -> Result<Option<i64>, StorageError> {
        if let Some(known) = self.state.borrow().segment_at(base).and_then(|s| s.first_timestamp) {
            return Ok(Some(known));
        }
        let first = async || {
            let mut cursor = Cursor::new(self.clone(), (base, 0), (base, u32::MAX));
            while let Some(batch) = cursor.next().await? {
                if batch.header.count > 0 {
                    return Ok(Some(batch.header.max_timestamp));
                }
            }
            Ok(None)
        };
        let found = self.unchanged(first).await?;
        if let Some(segment) = self.state.borrow_mut().segment_at_mut(base) {
            segment.first_timestamp = found;
        }
        Ok(found)
    }

    /// Closes the active segment if its first records are from before `limit_ms` and all of it is applied.
    pub(crate) async fn roll_older_than(self: &Rc<Self>, limit_ms: i64) -> Result<(), StorageError> {
        let base = {
            let state = self.state.borrow();
            let base = state.active().base_offset;
            if base == state.log_end || state.fenced.is_some() {
                return Ok(());
            }
            base
        };
        if self.first_timestamp(base).await?.is_none_or(|first| first >= limit_ms) {
            return Ok(());
        }
        {
            let state = &mut *self.state.borrow_mut();
            let same = state.active().base_offset == base && state.applied.next_index == state.next_index;
            if !same || self.refusal_in(state).is_some() {
                return Ok(());
            }
            let term = state.last.map_or(Default::default(), |id| id.term);
            self.roll(state, term);
        }
        self.keep_warm();
        Ok(())
    }
}
