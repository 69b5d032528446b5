//! Cutting off a log's end, where another leader's entries replace it.

use std::rc::Rc;

use core_pinning::disk::fs;

use super::entries::entry_kind;
use super::{Log, LogInner, LogState};
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::model::{LogId, Offset};
use crate::point::Point;
use crate::producer_state::ProducerTable;
use crate::record::internal::SEGMENT_HEADER_BYTES;
use crate::segment::Times;

impl Log {
    /// Cuts the log after the entry `last_kept` (`None`: cuts everything). Entries are gone for readers at once; it returns
    /// when that is durable. Only entries that are not applied can go. Nothing may be appended until it returns.
    pub async fn truncate_after(&self, last_kept: Option<LogId>) -> Result<(), StorageError> {
        let inner = &self.0;
        if let Some(error) = inner.refusal(true) {
            return Err(error);
        }
        inner.settled().await;
        let end = inner.cut_point(last_kept)?;
        let Some(end) = end else { return Ok(()) };
        // The segment goes on: what only an active one needs in memory has to be there. Nothing is cut before that.
        inner.load_index(end.segment).await?;
        let times = inner.unchanged(async || inner.times_before(end).await).await?;
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        let old_snapshot = inner.state.borrow().producer_snapshot.filter(|p| p.place() > end.place());
        let gone = inner.cut(end, last_kept, times, sender)?;
        let written = receiver.await.unwrap_or(Err(StorageError::Closed));
        // No job that began before may write the index of what is gone.
        inner.shared.write_back.finished(inner).await;
        let forgotten = inner.forget_indexes(&[end.segment]).await;
        inner.state.borrow_mut().truncating -= 1;
        // Those who want the log written back have rested meanwhile.
        inner.shared.write_back.notify_progress();
        written.and(forgotten)?;
        inner.remove_segments(&gone, true).await?;
        if !gone.is_empty() {
            // Came they back after a loss of power, they would stand between the segments that follow now.
            fs::sync_dir(&inner.dir).await.doing("sync", &inner.dir)?;
        }
        if let Some(point) = old_snapshot {
            // It speaks of producers that the log no longer knows.
            let _ = fs::remove_file(&inner.dir.join(layout::snapshot_name(point.next_offset))).await;
        }
        inner.unchanged(async || inner.rebuild_producers().await).await?;
        inner.shared.write_back.enqueue(inner);
        Ok(())
    }
}

impl LogInner {
    /// The end of the entry; `None` if the log ends there.
    fn cut_point(&self, last_kept: Option<LogId>) -> Result<Option<Point>, StorageError> {
        let state = self.state.borrow();
        if last_kept == state.last {
            return Ok(None);
        }
        let refused =
            || StorageError::refused(format!("cannot cut after {last_kept:?}: applied is {:?}", state.applied_id));
        let next = last_kept.map_or(0, |id| id.index.0 + 1);
        let before = next.checked_sub(state.applied.next_index.0).ok_or_else(refused)?;
        let Some(at) = before.checked_sub(1) else {
            // Where nothing of the segment is applied, its header stays.
            let position = state.applied.position.max(SEGMENT_HEADER_BYTES as u32);
            return Ok(Some(Point { position, ..state.applied }));
        };
        let header = state.unapplied.get(at as usize).filter(|h| Some(h.id) == last_kept).ok_or_else(refused)?;
        Ok(Some(Point {
            segment: header.segment,
            position: header.position + header.size,
            next_offset: header.next_offset(),
            next_index: header.id.index.next(),
        }))
    }

    /// The segment's largest timestamp before the point.
    async fn times_before(self: &Rc<Self>, end: Point) -> Result<Times, StorageError> {
        let known = {
            let state = self.state.borrow();
            let segment = state.segment_at(end.segment);
            match segment.and_then(|s| s.times) {
                Some(times) if times == Times::NONE || times.position < end.position => return Ok(times),
                _ => segment.and_then(|s| s.index.clone()),
            }
        };
        // Rare, and the largest one was at the end: it mostly lies behind the last entry. What an entry says of those before it may
        // be too much (the walk of a start counts on what the whole log had), and never too little.
        let floor = known.as_ref().and_then(|i| i.floor_position(end.position.saturating_sub(1), u32::MAX)).copied();
        let (from, before) = floor.map_or((0, i64::MIN), |entry| (entry.position, entry.max_timestamp));
        let times = self.times_between(from, end).await?;
        if from == 0 || times.max_timestamp > before { Ok(times) } else { self.times_between(0, end).await }
    }

    async fn times_between(self: &Rc<Self>, from: u32, end: Point) -> Result<Times, StorageError> {
        let mut times = Times::NONE;
        let mut cursor = super::cursor::Cursor::new(self.clone(), (end.segment, from), end.place());
        while let Some(batch) = cursor.next().await? {
            if !batch.header.is_internal() {
                times.see(batch.header.max_timestamp, batch.position);
            }
        }
        Ok(times)
    }

    /// Cuts what is in memory and sends the cut to the journal. Returns the segments that are gone.
    fn cut(
        self: &Rc<Self>,
        end: Point,
        last: Option<LogId>,
        times: Times,
        durable: core_pinning::sync::oneshot::Sender<Result<(), StorageError>>,
    ) -> Result<Vec<Offset>, StorageError> {
        let mut borrowed = self.state.borrow_mut();
        let state: &mut LogState = &mut borrowed;
        let changed =
            state.applied.next_index > end.next_index || !state.bypass.is_empty() || self.marks.unsettled.get() > 0;
        if changed || state.segment_at(end.segment).is_none_or(|s| s.start.is_none()) {
            return Err(StorageError::refused("the log changed while it was cut"));
        }
        let dirty_before = state.dirty();
        let mut gone = Vec::new();
        while state.active().base_offset > end.segment {
            if let Some(segment) = state.segments.pop_back() {
                if let Some(tail) = &segment.tail {
                    tail.chunks.iter().for_each(|chunk| self.shared.forget_chunk(chunk));
                }
                gone.push(segment.base_offset);
            }
        }
        let segment = state.active_mut();
        segment.size = end.position;
        segment.finished = false;
        segment.times = Some(times);
        segment.index_mut().truncate(end.position, times.max_timestamp);
        (segment.head, segment.last_batch) = (None, None);
        if let Some(tail) = &mut segment.tail {
            while tail.chunks.back().is_some_and(|c| c.start() >= end.position) {
                if let Some(chunk) = tail.chunks.pop_back() {
                    self.shared.forget_chunk(&chunk);
                }
            }
            if let Some(chunk) = tail.chunks.back_mut() {
                chunk.cut(end.position);
            }
            tail.internal.retain(|(position, _)| *position < end.position);
            tail.written = tail.written.min(end.position);
            (tail.issued, tail.noted, tail.sized) = (0, 0, 0);
        }
        state.log_end = end.next_offset;
        state.next_index = end.next_index;
        state.last = last;
        let kept = end.next_index - state.applied.next_index;
        state.unapplied.truncate(kept as usize);
        state.memberships.retain(|(id, _)| id.index < end.next_index);
        state.terms.truncate(end.next_index);
        state.epochs.truncate_end(end.next_offset);
        state.aborted.cut(end.next_offset);
        // A term that has only entries without offsets begins at the log end.
        if let Some(last) = last.filter(|last| state.epochs.latest().is_none_or(|(term, _)| term < last.term)) {
            state.epochs.assign(last.term, end.next_offset);
        }
        if state.flushed.place() > end.place() {
            state.flushed = end;
        }
        state.synced = state.synced.min(end.place());
        state.producer_snapshot = state.producer_snapshot.filter(|p| p.place() <= end.place());
        state.truncating += 1;
        state.generation += 1;
        state.state_file_current = false;
        self.shared.dirty.sub(dirty_before - state.dirty());
        state.check();
        let done = Box::new(move |result| {
            let _ = durable.send(result);
        });
        state.producers_ahead = true;
        self.journal_state(state, Some(done));
        Ok(gone)
    }

    /// Makes the producer table again, from the last snapshot and the batches behind it.
    pub(super) async fn rebuild_producers(self: &Rc<Self>) -> Result<(), StorageError> {
        let (end, first, applied) = {
            let state = self.state.borrow();
            let first = state.segments.front().map_or(Offset::ZERO, |s| s.base_offset);
            (state.end(), first, state.applied.next_offset)
        };
        let bases: Vec<Offset> = self.state.borrow().segments.iter().map(|s| s.base_offset).collect();
        let mut table = ProducerTable::new();
        let mut from = first;
        // As in opening a log, no snapshot of what is not applied.
        for base in bases.into_iter().rev().filter(|base| *base <= applied) {
            let in_memory = {
                let state = self.state.borrow();
                state.segment_at(base).and_then(|s| s.tail.as_ref()).and_then(|t| t.snapshot.clone())
            };
            let bytes = match in_memory {
                Some(bytes) => Some(bytes.into()),
                None => crate::durable::read(&self.dir.join(layout::snapshot_name(base))).await?,
            };
            if let Some(Ok(found)) = bytes.map(|bytes| ProducerTable::decode(&mut &bytes[..])) {
                (table, from) = (found, base);
                break;
            }
        }
        let mut cursor = super::cursor::Cursor::new(self.clone(), (from, 0), end.place());
        while let Some(batch) = cursor.next().await? {
            if entry_kind(&batch).is_ok_and(|kind| kind.is_some()) {
                table.see(&batch.header, batch.header.base_offset, &batch.bytes);
            }
        }
        let state = &mut *self.state.borrow_mut();
        table.forget_aborted(state.aborted_known());
        table.applied(state.applied.next_offset);
        self.producers.replace(table);
        state.producers_ahead = false;
        Ok(())
    }
}
