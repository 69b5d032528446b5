//! What is kept of a log beside its segments: state records in the journal while it is used, a state file when it is not.

use std::io::ErrorKind;
use std::rc::Rc;

use core_pinning::disk::fs;
use core_pinning::{Queue, spawn};

use super::state::{ActiveSegment, PartitionState, Producers, state_record};
use super::{LogInner, LogState};
use crate::error::{Doing, StorageError};
use crate::journal::Done;
use crate::journal::record::RecordKind;
use crate::layout;
use crate::point::Point;
use crate::segment::Times;

/// A table up to this size goes into the state; a larger one into a file of its own.
const INLINE_BYTES: usize = 8 << 10;
/// Which is written again after so many bytes of log.
const SNAPSHOT_EVERY: u64 = 32 << 20;
/// As many aborted transactions go into their files at a checkpoint; fewer stay in the state.
const ABORTED_MANY: usize = 64;
/// The index of an active segment is written after so many bytes, or when a quarter of it is new.
const INDEX_EVERY: u32 = 32 << 20;
/// Bytes of a shard's logs that were written past the journal without a state in it that knows of them, about: opening the logs
/// after a crash looks at them.
const UNTOLD_OF_SHARD: usize = 64 << 20;
/// The same of one log, at least: a state takes up to 10 KiB.
const UNTOLD_OF_LOG: usize = 1 << 20;

impl LogInner {
    /// The log as it is now.
    fn persisted(&self, state: &LogState, clean: bool) -> PartitionState {
        let end = state.end();
        let active = state.active();
        let producers = self.producers.borrow();
        let producers = match producers.encoded_bytes() {
            _ if state.producers_ahead => Producers::Rebuild,
            _ if producers.is_empty() => Producers::Empty,
            size if size <= INLINE_BYTES => {
                let mut table = Vec::new();
                producers.encode_before(end.next_offset, &mut table);
                Producers::Inline(table.into())
            }
            _ => state.producer_snapshot.map_or(Producers::Rebuild, Producers::Snapshot),
        };
        PartitionState {
            key: self.key,
            topic: self.topic.to_string(),
            clean,
            vote: state.vote,
            log_start: state.log_start,
            purged: state.purged,
            first_segment: state.segments.front().map_or(end.segment, |s| s.base_offset),
            end,
            last: state.last,
            applied: state.applied,
            applied_id: state.applied_id,
            synced: state.synced,
            durable: end.place(),
            active: ActiveSegment {
                start: match active.start {
                    Some(start) => start,
                    None => unreachable!("an active segment's start is known"),
                },
                times: active.times.unwrap_or(Times::NONE),
            },
            memberships: state.memberships.clone(),
            producers,
            epochs: state.epochs.clone(),
            aborted_indexed: state.aborted.indexed,
            aborted_files: state.aborted.bases().filter(|base| state.segment_at(*base).is_some()).collect(),
            terms: state.terms.clone(),
        }
    }

    /// Puts the log's state into the journal. All that was appended to the log before is durable when it is.
    pub(crate) fn journal_state(self: &Rc<Self>, state: &mut LogState, done: Option<Done>) {
        if let Some(error @ StorageError::Deleted(_)) = &state.fenced {
            // Behind the record of its deletion it would bring the log back.
            done.into_iter().for_each(|done| done(Err(error.clone())));
            return;
        }
        let payload = state_record(&self.persisted(state, false));
        self.record(state, RecordKind::State, payload, done);
    }

    /// Counts bytes written past the journal, and puts the log's state there when they are many. What goes through the journal
    /// needs no such thing: it fills files, and so leads to a checkpoint.
    pub(super) fn count_untold(self: &Rc<Self>, bytes: usize) {
        let untold = self.marks.untold.get() + bytes;
        let logs = self.shared.warm_logs.borrow().len().max(1);
        if untold < (UNTOLD_OF_SHARD / logs).max(UNTOLD_OF_LOG) {
            return self.marks.untold.set(untold);
        }
        self.marks.untold.set(0);
        let log = self.clone();
        let tell = async move {
            // A full disk: the next one tells.
            if log.snapshot_producers().await.is_err() {
                return;
            }
            log.snapshot_index().await;
            let state = &mut *log.state.borrow_mut();
            if state.fenced.is_none() && state.truncating == 0 && !log.shared.closing.get() {
                log.journal_state(state, None);
            }
        };
        spawn(Queue::Background, "log state", tell).detach();
    }

    /// Writes the state file, durably. The log is at rest: everything is durable, and in its segment files up to `synced`.
    pub(crate) async fn write_state_file(self: &Rc<Self>, clean: bool) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            self.persisted(state, clean).encode(&mut bytes);
            // Whatever changes from here on says so itself.
            state.state_file_current = clean;
        }
        let path = self.dir.join(layout::STATE_FILE);
        let written = async {
            crate::durable::replace(&path, bytes, true).await?;
            fs::sync_dir(&self.dir).await.doing("sync", &self.dir)
        };
        let written = written.await;
        if written.is_err() {
            self.state.borrow_mut().state_file_current = false;
        }
        written
    }

    /// The contents of the state file of a log that is closed.
    pub(crate) fn clean_state(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.persisted(&self.state.borrow(), true).encode(&mut bytes);
        bytes
    }

    /// Makes what was written to the segment files durable.
    ///
    /// A sync that failed is not tried again: the kernel may have forgotten what it could not write. So the journal ends with it.
    pub(crate) async fn sync_files(self: &Rc<Self>) -> Result<(), StorageError> {
        let _turn = self.marks.syncing.0.acquire(1).await;
        if let Some(failure) = self.shared.journal.failure() {
            // The one before may have failed, with what this one is for.
            return Err(failure);
        }
        self.sync_what_is_written().await.map_err(|error| {
            if self.is_deleted() {
                return error; // its files went away meanwhile
            }
            let reason = format!("sync: {error}");
            self.shared.journal.fail(&reason);
            StorageError::JournalFailed { reason: reason.into() }
        })
    }

    async fn sync_what_is_written(self: &Rc<Self>) -> Result<(), StorageError> {
        let (bases, dir) = {
            let state = &mut *self.state.borrow_mut();
            (std::mem::take(&mut state.unsynced), std::mem::take(&mut state.dir_unsynced))
        };
        for base in bases {
            let is_there = || self.state.borrow().segment_at(base).is_some_and(|s| s.has_file);
            if !is_there() {
                continue;
            }
            let file = match self.open_segment(base, false).await {
                // Trimmed off meanwhile: that was durable before the file went.
                Err(StorageError::Io { kind: ErrorKind::NotFound, .. }) if !is_there() => continue,
                other => other?,
            };
            file.sync_data().await.doing("sync", file.path())?;
        }
        if dir {
            fs::sync_dir(&self.dir).await.doing("sync", &self.dir)?;
        }
        Ok(())
    }

    /// Notes that everything before `point` has been written and synced.
    pub(crate) fn mark_synced(&self, point: Point) {
        let state = &mut *self.state.borrow_mut();
        state.synced = state.synced.max(point.place());
    }

    /// Writes a large producer table to a file of its own, when the last one is old. The table and the point agree.
    pub(crate) async fn snapshot_producers(self: &Rc<Self>) -> Result<(), StorageError> {
        if self.state.borrow().producers_ahead {
            return Ok(());
        }
        if !self.index_aborted(ABORTED_MANY).await? {
            return Ok(());
        }
        let (point, generation, table) = {
            let state = self.state.borrow();
            let producers = self.producers.borrow();
            if state.producers_ahead {
                return Ok(());
            }
            let point = state.end();
            let since = state.producer_snapshot.map(|p| {
                let whole = state.segments.iter().filter(|s| s.base_offset >= p.segment).map(|s| u64::from(s.size));
                whole.sum::<u64>().saturating_sub(p.position.into())
            });
            if producers.encoded_bytes() <= INLINE_BYTES || since.is_some_and(|bytes| bytes < SNAPSHOT_EVERY) {
                return Ok(());
            }
            let mut table = Vec::new();
            producers.encode_before(point.next_offset, &mut table);
            (point, state.generation, table)
        };
        let path = self.dir.join(layout::snapshot_name(point.next_offset));
        crate::durable::replace(&path, table, true).await?;
        fs::sync_dir(&self.dir).await.doing("sync", &self.dir)?;
        let state = &mut *self.state.borrow_mut();
        if state.generation == generation {
            // The file before is needed until a state that names this one is durable; the next opening removes it.
            state.producer_snapshot = Some(point);
        }
        Ok(())
    }

    /// Writes the index of the active segment, when the last one is old: after a crash what it does not cover is read.
    pub(crate) async fn snapshot_index(self: &Rc<Self>) {
        let old = |state: &LogState| {
            let active = state.active();
            let (base, covered) = self.marks.indexed.get();
            let since = if base == active.base_offset { active.size.saturating_sub(covered) } else { active.size };
            (since >= INDEX_EVERY.max(active.size / 4)).then_some(active.base_offset)
        };
        let Some(base) = old(&self.state.borrow()) else { return };
        if self.complete_index(base, true).await.is_err() {
            return;
        }
        let (generation, file) = {
            let state = self.state.borrow();
            let file = old(&state).filter(|now| *now == base).and_then(|_| self.index_file(&state, state.active()));
            let Some(file) = file else { return };
            (state.generation, file)
        };
        self.marks.indexed.set((base, file.covers.covered));
        // What is not durable yet would make it worthless after a crash.
        if self.shared.flush().await.is_err() {
            return;
        }
        let is_same = || self.state.borrow().generation == generation;
        if is_same() {
            self.write_index(file).await;
            if !is_same() {
                // The segment may have been cut meanwhile.
                let _ = self.forget_indexes(&[base]).await;
            }
        }
    }

    /// Gives the active segment's file its exact size and writes its index, before the log is closed.
    pub(crate) async fn close_files(self: &Rc<Self>) -> Result<(), StorageError> {
        let base = self.state.borrow().active().base_offset;
        match self.complete_index(base, false).await {
            // The log is fenced, and keeps nobody from closing: its index is made again.
            Ok(()) | Err(StorageError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let (base, size, allocated, index) = {
            let state = self.state.borrow();
            let active = state.active();
            (active.base_offset, active.size, active.allocated, self.index_file(&state, active))
        };
        if allocated != size {
            let file = self.open_segment(base, false).await?;
            file.set_len(size.into()).await.doing("cut", file.path())?;
            let state = &mut *self.state.borrow_mut();
            state.unsynced.push(base);
            state.active_mut().allocated = size;
        }
        if let Some(index) = index {
            self.write_index(index).await;
        }
        Ok(())
    }
}
