//! Letting go of a log's beginning: DeleteRecords and retention.

use std::rc::Rc;
use std::time::Duration;

use core_pinning::disk::fs;
use core_pinning::{Queue, spawn, time};

use super::{Log, LogInner, LogState};
use crate::error::{Doing, StorageError, is_disk_full};
use crate::layout::{self, DELETED_SUFFIX};
use crate::model::Offset;
use crate::point::Point;

/// What a round of retention took out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    pub segments: usize,
    pub bytes: u64,
}

impl Log {
    /// Moves the log start to `to`, at most the high watermark; returns when that is durable. Segments that lie wholly before
    /// it are deleted. Does nothing if the log starts there or later.
    pub async fn trim(&self, to: Offset) -> Result<(), StorageError> {
        {
            let state = self.0.state.borrow();
            if let Some(error) = &state.fenced {
                return Err(error.clone());
            }
            if to > state.applied.next_offset {
                return Err(StorageError::refused(format!(
                    "log start {to} beyond the high watermark {}",
                    state.applied.next_offset
                )));
            }
            if to <= state.log_start {
                return Ok(());
            }
        }
        let _alone = self.0.compaction.alone().await;
        self.0.finish_swap().await?;
        self.0.load_starts().await?;
        self.0.move_start(to).await.map(drop)
    }

    /// Deletes what the topic's retention no longer keeps: whole segments, oldest first, all of whose entries are applied.
    /// A last segment with records that are too old is closed first, so that it can go.
    pub async fn apply_retention(&self, now_ms: i64) -> Result<Freed, StorageError> {
        let config = self.config();
        if !config.cleanup.delete {
            return Ok(Freed::default());
        }
        let _alone = self.0.compaction.alone().await;
        self.0.finish_swap().await?;
        if config.retention_ms >= 0 {
            self.0.load_oldest_times(now_ms - config.retention_ms).await?;
        }
        let to = {
            let state = &mut *self.0.state.borrow_mut();
            if state.fenced.is_some() {
                return Ok(Freed::default());
            }
            let mut excess = match u64::try_from(config.retention_bytes) {
                Ok(limit) => state.segments.iter().map(|s| u64::from(s.size)).sum::<u64>().saturating_sub(limit),
                Err(_) => 0,
            };
            let mut expired = 0;
            for (at, segment) in state.segments.iter().enumerate() {
                let too_much = excess >= u64::from(segment.size);
                let too_old = config.retention_ms >= 0
                    && segment.times.is_some_and(|t| t.max_timestamp.saturating_add(config.retention_ms) < now_ms);
                let empty = at + 1 == state.segments.len() && segment.base_offset == state.log_end;
                if empty || !(too_much || too_old) {
                    break;
                }
                excess = excess.saturating_sub(segment.size.into());
                expired = at + 1;
            }
            if expired == state.segments.len() {
                let roll = state.applied.next_index == state.next_index && self.0.refusal_in(state).is_none();
                if roll {
                    let term = state.last.map_or(Default::default(), |id| id.term);
                    self.0.roll(state, term);
                } else {
                    expired -= 1;
                }
            }
            state.segments.get(expired).map(|s| s.base_offset).filter(|_| expired > 0)
        };
        self.0.keep_warm();
        let Some(to) = to else { return Ok(Freed::default()) };
        self.0.load_starts().await?;
        let to = to.min(self.bounds().high_watermark).max(self.bounds().log_start);
        self.0.move_start(to).await
    }
}

impl LogInner {
    pub(super) fn refusal_in(&self, state: &LogState) -> Option<StorageError> {
        // A new segment is a few bytes, and may let gigabytes go.
        state.write_back_error.clone().or_else(|| self.shared.refusal_of_essential())
    }

    /// Purge points are taken from the segments' headers.
    async fn load_starts(self: &Rc<Self>) -> Result<(), StorageError> {
        let unknown: Vec<Offset> = {
            let state = self.state.borrow();
            state.segments.iter().filter(|s| s.start.is_none()).map(|s| s.base_offset).collect()
        };
        for base in unknown {
            self.load_start(base).await?;
        }
        Ok(())
    }

    /// Loads the times of the oldest segments, up to the first one with a record at or after `limit`.
    async fn load_oldest_times(self: &Rc<Self>, limit: i64) -> Result<(), StorageError> {
        let bases: Vec<Offset> = self.state.borrow().segments.iter().map(|s| s.base_offset).collect();
        for base in bases {
            if self.state.borrow().segment_at(base).is_some_and(|s| s.times.is_none()) {
                self.load_times(base).await?;
            }
            let times = self.state.borrow().segment_at(base).and_then(|s| s.times);
            if times.is_some_and(|t| t.max_timestamp >= limit) {
                break;
            }
        }
        Ok(())
    }

    /// Moves the log start, and with it the first segment and the purge point; then removes the files.
    async fn move_start(self: &Rc<Self>, to: Offset) -> Result<Freed, StorageError> {
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        let (gone, freed) = {
            let state = &mut *self.state.borrow_mut();
            let mut gone = Vec::new();
            let mut freed = Freed::default();
            let dirty_before = state.dirty();
            // A segment goes if the next one begins at or before the new start, and all its entries are applied.
            while state.segments.get(1).is_some_and(|next| {
                next.base_offset <= to && next.start.is_some_and(|s| s.base_index <= state.applied.next_index)
            }) {
                let Some(segment) = state.segments.pop_front() else { break };
                if let Some(tail) = &segment.tail {
                    tail.chunks.iter().for_each(|chunk| self.shared.forget_chunk(chunk));
                }
                freed.segments += 1;
                freed.bytes += u64::from(segment.size);
                gone.push(segment.base_offset);
            }
            let first = state.segments.front();
            state.purged = first.and_then(|s| s.start).and_then(|s| s.previous).max(state.purged);
            if let Some(purged) = state.purged {
                state.terms.purge(purged);
            }
            state.log_start = state.log_start.max(to);
            state.epochs.trim_start(state.log_start);
            let first_segment = state.segments.front().map_or(Offset::ZERO, |s| s.base_offset);
            // Points that lay in what is gone are at its end now.
            let at = Point {
                segment: first_segment,
                position: 0,
                next_offset: first_segment,
                next_index: state.segments.front().and_then(|s| s.start).map_or(state.next_index, |s| s.base_index),
            };
            for point in [&mut state.applied, &mut state.flushed] {
                if point.segment < first_segment {
                    *point = at;
                }
            }
            state.aborted.trim(first_segment);
            self.producers.borrow_mut().forget_aborted(first_segment);
            state.synced = state.synced.max(at.place());
            state.unsynced.retain(|base| *base >= first_segment);
            state.producer_snapshot = state.producer_snapshot.filter(|p| p.segment >= first_segment);
            state.state_file_current = false;
            self.shared.dirty.sub(dirty_before - state.dirty());
            state.check();
            let done = Box::new(move |result| {
                let _ = sender.send(result);
            });
            self.journal_state(state, Some(done));
            (gone, freed)
        };
        receiver.await.unwrap_or(Err(StorageError::Closed))?;
        self.remove_segments(&gone, false).await?;
        Ok(freed)
    }

    /// Takes the files of segments that are no longer in the log out of the directory: at once, or renamed and later, for those
    /// who want to have a look (`file.delete.delay.ms`).
    pub(super) async fn remove_segments(self: &Rc<Self>, gone: &[Offset], at_once: bool) -> Result<(), StorageError> {
        if gone.is_empty() {
            return Ok(());
        }
        // A job that began before may still make a file; later ones do not know the segments.
        self.shared.write_back.finished(self).await;
        let delay = u64::try_from(self.state.borrow().config.file_delete_delay_ms).unwrap_or(0);
        let mut renamed = Vec::new();
        for base in gone {
            self.shared.files.forget(self.key, *base);
            let names = [layout::segment_name, layout::index_name, layout::snapshot_name, layout::txn_index_name];
            for name in names.map(|name| name(*base)) {
                let path = self.dir.join(&name);
                let result = if at_once || delay == 0 || self.shared.thrift.is_on() {
                    fs::remove_file(&path).await
                } else {
                    let to = self.dir.join(format!("{name}{DELETED_SUFFIX}"));
                    let result = fs::rename(&path, &to).await;
                    renamed.push(to);
                    result
                };
                match result {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound || is_disk_full(&error) => {}
                    other => other.doing("remove", &path)?,
                }
            }
        }
        self.state.borrow_mut().dir_unsynced = true;
        if !renamed.is_empty() {
            let thrift = self.shared.thrift.clone();
            let remove = async move {
                let _ = time::timeout(Duration::from_millis(delay), thrift.begun()).await;
                for path in renamed {
                    // Gone already if the partition was deleted; the next start removes what is left.
                    let _ = fs::remove_file(&path).await;
                }
            };
            spawn(Queue::Background, "delete segments", remove).detach();
        }
        Ok(())
    }
}
