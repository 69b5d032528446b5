//! Appending: into memory and into the journal's queue, at once and in order.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::time;

use super::{Log, LogInner, LogState};
use crate::chunk::{Chunk, align_down};
use crate::entry::{EntryHeader, EntryKind, LogEntry};
use crate::error::StorageError;
use crate::journal::Done;
use crate::model::{Offset, Term};
use crate::point::Point;
use crate::record::internal::{self, SegmentHeader};
use crate::record::{BatchHeader, HEADER_BYTES};
use crate::segment::index::IndexEntry;
use crate::segment::index_file::Fingerprint;
use crate::segment::{Segment, SegmentStart};

pub(super) const CHUNK_BYTES_MIN: usize = 4096;
/// A chunk that is filled faster than this makes the next one larger.
const FILL_TIME: Duration = Duration::from_millis(200);

impl Log {
    /// Places entries in the log: readable at once, their order fixed. `durable` is called once they are on disk, in the order
    /// of the calls, or with the error that ended the journal; with `write_caching` it is called before `append` returns.
    /// Never waits: the caller bounds the bytes by [`Store::dirty`](crate::Store::dirty).
    ///
    /// Entries must continue the log, index by index, their terms never falling, a `Data` entry's base offset being the log
    /// end or 0. On `DiskFull`, `JournalFailed`, `Corrupt` and `Deleted` nothing was appended. `Refused` names an entry that does not
    /// continue the log: those before it in the call have been appended, and `durable` is dropped.
    pub fn append(
        &self,
        entries: impl IntoIterator<Item = LogEntry>,
        durable: impl FnOnce(Result<(), StorageError>) + 'static,
    ) -> Result<(), StorageError> {
        let mut entries = entries.into_iter().peekable();
        let internal = entries.peek().is_some_and(|e| e.kind != EntryKind::Data);
        if let Some(error) = self.0.refusal(internal) {
            return Err(error);
        }
        let mut done: Option<Done> = Some(Box::new(durable));
        let mut acknowledge_now: Option<Done> = None;
        {
            let mut borrowed = self.0.state.borrow_mut();
            let state = &mut *borrowed;
            state.last_append = time::now();
            if state.config.write_caching {
                acknowledge_now = done.take();
            }
            while let Some(entry) = entries.next() {
                let last = entries.peek().is_none();
                self.0.append_entry(state, entry, if last { done.take() } else { None })?;
            }
            state.check();
        }
        self.0.keep_warm();
        if let Some(done) = acknowledge_now {
            done(Ok(()));
        }
        // An empty call is as durable as what was appended before it.
        if let Some(done) = done {
            self.0.shared.after_all(done);
        }
        Ok(())
    }
}

impl LogInner {
    fn append_entry(
        self: &Rc<Self>,
        state: &mut LogState,
        entry: LogEntry,
        done: Option<Done>,
    ) -> Result<(), StorageError> {
        let LogEntry { id, kind, bytes } = entry;
        let last_term = state.last.map_or(Term(0), |last| last.term);
        if id.index != state.next_index || id.term < last_term {
            let message = format!("entry {id} does not follow {:?} at index {}", state.last, state.next_index);
            return Err(StorageError::refused(message));
        }
        let batch = match kind {
            EntryKind::Data => bytes.clone(),
            EntryKind::Blank => internal::blank(id.term, state.log_end),
            EntryKind::Membership => internal::membership(id.term, state.log_end, &bytes),
        };
        let mut header = BatchHeader::parse(&batch).map_err(|e| StorageError::refused(format!("entry {id}: {e}")))?;
        if header.base_offset == Offset::ZERO {
            header.base_offset = state.log_end;
        }
        if header.size() != batch.len()
            || header.base_offset != state.log_end
            || (kind == EntryKind::Data && header.last_offset_delta < 0)
        {
            let message = format!(
                "entry {id}: a batch of {} bytes at offset {} where {} bytes at {} are due",
                header.size(),
                header.base_offset,
                batch.len(),
                state.log_end
            );
            return Err(StorageError::refused(message));
        }
        debug_assert!(header.verify_crc(&batch).is_ok(), "a batch is checked before it is appended");
        if self.must_roll(state, &header) {
            self.roll(state, id.term);
        }
        self.learn_age(state);
        let end = header.next_offset();
        let position = state.active().size;
        match kind {
            EntryKind::Membership => state.memberships.push((id, bytes)),
            EntryKind::Data => self.producers.borrow_mut().see(&header, header.base_offset, &batch),
            EntryKind::Blank => {}
        }
        state.unapplied.push_back(EntryHeader {
            id,
            kind,
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            segment: state.active().base_offset,
            position,
            size: batch.len() as u32,
            max_timestamp: header.max_timestamp,
        });
        if state.epochs.latest().is_none_or(|(term, _)| term < id.term) {
            state.epochs.assign(id.term, header.base_offset);
        }
        state.terms.append(id);
        state.state_file_current = false;
        let interval = state.config.index_interval_bytes;
        let next_index = id.index.next();
        let segment = state.active_mut();
        let ordinal = segment.start.map_or(0, |start| (id.index - start.base_index) as u32);
        let max_timestamp = segment.times.map_or(i64::MIN, |t| t.max_timestamp);
        let offset_delta = segment.offset_delta(header.base_offset);
        segment.index_mut().add(interval, IndexEntry { offset_delta, position, ordinal, max_timestamp });
        if kind == EntryKind::Data && header.base_offset == segment.base_offset {
            segment.first_timestamp = Some(header.max_timestamp);
        }
        if kind == EntryKind::Data
            && let Some(times) = &mut segment.times
        {
            times.see(header.max_timestamp, position);
        }
        state.last = Some(id);
        state.next_index = next_index;
        state.log_end = end;
        self.place(state, &batch, &header, id.term, done);
        Ok(())
    }

    /// Copies a batch to the end of the active segment and hands it to the journal. The log's ends have been moved already.
    fn place(
        self: &Rc<Self>,
        state: &mut LogState,
        batch: &Bytes,
        header: &BatchHeader,
        term: Term,
        done: Option<Done>,
    ) {
        let from = state.active().size;
        self.chunk_for(state, batch.len(), header.base_offset);
        let segment = state.active_mut();
        segment.size += batch.len() as u32;
        let (base, size) = (segment.base_offset, segment.size);
        let (base_offset, leader_epoch) = (header.base_offset, term.leader_epoch());
        segment.last_batch = Some(Fingerprint { position: from, base_offset, leader_epoch, crc: header.crc });
        let tail = segment.tail_mut();
        if header.is_internal() {
            tail.internal.push_back((from, batch.len() as u32));
        }
        let Some(chunk) = tail.chunks.back_mut() else { unreachable!("chunk_for has made one") };
        let (head, rest) = batch.split_at(HEADER_BYTES);
        let mut place = [0; HEADER_BYTES];
        place.copy_from_slice(head);
        // The term is the entry's, whoever built the batch: recovery reads it from here.
        crate::record::patch_base_offset_and_epoch(&mut place, header.base_offset, term);
        chunk.append(&place, rest);
        let slice = chunk.slice(from, size);
        self.shared.dirty.add(batch.len());
        self.shared.stats.appended_bytes.add(batch.len());
        let point = Point { segment: base, position: size, next_offset: state.log_end, next_index: state.next_index };
        self.make_durable(state, base, from, slice, point, done);
    }

    /// Makes sure that the active segment's last chunk takes `len` bytes more.
    fn chunk_for(&self, state: &mut LogState, len: usize, first_offset: Offset) {
        let room = state.active().tail.as_ref().and_then(|t| t.chunks.back()).map_or(0, Chunk::room);
        if room >= len {
            return;
        }
        let now = time::now();
        let had_chunk = state.active_mut().tail_mut().chunks.back_mut().is_some_and(|last| {
            last.seal();
            true
        });
        let fast = now.saturating_duration_since(state.chunk_begun) < FILL_TIME;
        state.next_chunk = match (had_chunk, fast) {
            (false, _) => CHUNK_BYTES_MIN,
            (true, true) => (state.next_chunk * 4).min(self.shared.chunk_bytes_max()),
            (true, false) => (state.next_chunk / 2).max(2 * CHUNK_BYTES_MIN),
        };
        state.chunk_begun = now;
        let capacity = state.next_chunk;
        let segment = state.active_mut();
        let start = segment.size;
        let tail = segment.tail_mut();
        let block = align_down(start);
        // With what precedes `start` in its block the chunk has the size of a power of two: what the allocator has.
        let room = len.max(capacity - (start - block) as usize);
        let chunk = match tail.chunks.back() {
            // The bytes before `start` in its block, if all of them are in memory.
            Some(last) if block >= last.start() || last.prefix_known() => {
                let prefix = last.file_bytes(block, start);
                Chunk::new(start, room, first_offset, Some(prefix.as_ref()))
            }
            _ => Chunk::new(start, room, first_offset, None),
        };
        self.shared.memory.add(chunk.capacity());
        tail.chunks.push_back(chunk);
    }

    /// Kafka's `LogSegment.shouldRoll`.
    fn must_roll(&self, state: &LogState, header: &BatchHeader) -> bool {
        let (active, config) = (state.active(), &state.config);
        // A segment is named by its base offset, so one without records is not followed by another.
        if active.base_offset == state.log_end {
            return false;
        }
        let size = active.size as u64 + header.size() as u64;
        let delta = header.last_offset() - active.base_offset;
        size > u64::from(config.segment_bytes)
            || delta > i64::from(i32::MAX)
            // What Kafka's index entries (8 bytes) would take.
            || u64::from(active.size) / u64::from(config.index_interval_bytes.max(1)) * 8
                >= u64::from(config.segment_index_bytes)
            || state.is_old_for(header)
    }

    /// Begins a new segment at the log end.
    pub(super) fn roll(self: &Rc<Self>, state: &mut LogState, term: Term) {
        if let Some(last) = state.active_mut().tail_mut().chunks.back_mut() {
            last.seal();
        }
        let start = SegmentStart { base_index: state.next_index, previous: state.last, created_ms: time::wall_ms() };
        self.begin_segment(state, start, term);
        let mut snapshot = Vec::new();
        // The broker may be in the middle of an update; then an earlier snapshot has to do.
        if let Ok(producers) = self.producers.try_borrow()
            && !state.producers_ahead
        {
            producers.encode_before(state.log_end, &mut snapshot);
            state.active_mut().tail_mut().snapshot = Some(snapshot);
        }
    }

    /// Adds a segment at the log end and writes its header.
    pub(crate) fn begin_segment(self: &Rc<Self>, state: &mut LogState, start: SegmentStart, term: Term) {
        let base_offset = state.log_end;
        let header = SegmentHeader {
            format: internal::SEGMENT_FORMAT,
            key: self.key,
            base_offset,
            base_index: start.base_index,
            previous: start.previous,
            term,
            created_ms: start.created_ms,
        };
        let batch = internal::segment_header(&header);
        state.segments.push_back(Segment::begin(base_offset, start));
        match BatchHeader::parse(&batch) {
            Ok(header) => self.place(state, &batch, &header, term, None),
            Err(error) => unreachable!("our own segment header: {error}"),
        }
        self.shared.write_back.enqueue(self);
    }

    /// Puts the log on the list of those whose memory is looked after.
    pub(crate) fn keep_warm(self: &Rc<Self>) {
        if !self.marks.warm.replace(true) {
            self.shared.warm(self.clone());
        }
        if self.shared.dirty.is_pressing() {
            self.shared.warm_signal.notify();
        }
    }
}
