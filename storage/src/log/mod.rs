//! The log of one partition: a run of Kafka batches in segment files, each batch one entry of the partition's Raft log.
//!
//! All of it belongs to one shard. Appending never waits: it copies the batch into the tail's memory, where readers see it at
//! once, and leaves it to the journal to make it durable and to write-back to bring it into the segment file.
//!
//! ```text
//! offsets    log_start <= high_watermark <= log_end         flushed <= log_end
//! indexes    purged < first_index <= applied + 1 <= last + 1
//! files      synced <= written <= flushed <= size           per log, in (segment, position)
//! ```
//! - Bytes count as `written` only when the journal has them, or has durably been told that they are in the file
//!   (`written <= flushed`); none are written while a truncation is not durable: a crash can then lose nothing that it would
//!   have kept.
//! - A journal file is freed only when `synced` of each log in it is past its records there.

pub(crate) mod aborted;
mod age;
mod append;
pub(crate) mod bypass;
mod chain;
pub(crate) mod cursor;
mod entries;
mod expendable;
mod index;
pub(crate) mod load;
mod persist;
mod read;
mod seek;
pub(crate) mod state;
mod timestamps;
mod trim;
mod truncate;
mod write_back;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::sync::Semaphore;
use core_pinning::time::Instant;

use crate::compaction::Standing;
use crate::entry::{Bounds, EntryHeader, SegmentInfo, VoteRecord};
use crate::epoch_cache::EpochCache;
use crate::error::StorageError;
use crate::journal::record::RecordKind;
use crate::journal::{Done, Owner};
use crate::model::{LogId, Offset, PartitionKey, RaftIndex, Term};
use crate::options::LogConfig;
use crate::point::Point;
use crate::producer_state::ProducerTable;
use crate::segment::Segment;
use crate::store::shared::Shared;
use crate::term_starts::TermStarts;
use aborted::AbortedFiles;
use bypass::Bypass;
use state::Place;

pub use expendable::Expendable;
pub use timestamps::TimedOffset;
pub use trim::Freed;

/// One partition's log. Clones are the same log.
#[derive(Clone)]
pub struct Log(pub(crate) Rc<LogInner>);

type AdvanceHook = Rc<dyn Fn(Bounds)>;

pub(crate) struct LogInner {
    pub(crate) key: PartitionKey,
    pub(crate) topic: Arc<str>,
    pub(crate) dir: PathBuf,
    pub(crate) shared: Rc<Shared>,
    pub(crate) state: RefCell<LogState>,
    pub(crate) producers: RefCell<ProducerTable>,
    on_advance: RefCell<Option<AdvanceHook>>,
    growing: Cell<Option<u64>>,
    /// The journal file that holds the last record of this log; 0: none of this run.
    pub(crate) last_file: Cell<u64>,
    pub(crate) marks: Marks,
    pub(crate) compaction: Standing,
    unclean: bool,
}

/// Where the log stands with the shard's background work.
#[derive(Default)]
pub(crate) struct Marks {
    /// In the queue of write-back.
    pub(crate) queued: Cell<bool>,
    /// One failed, and is tried again after a while.
    pub(crate) pausing: Cell<bool>,
    /// A write-back job of the log runs. There is at most one: no two writes touch one block.
    pub(crate) busy: Cell<bool>,
    /// Write-back writes a last block that is not full, too, until it has got to `forced_to`.
    pub(crate) forced: Cell<bool>,
    /// Where the log was durable when forced write-back began: one that goes on being appended to is not followed block by block.
    pub(crate) forced_to: Cell<Option<Point>>,
    /// In the list of logs with memory.
    pub(crate) warm: Cell<bool>,
    /// Writes past the journal that it has not heard of, or not durably: write-back rests meanwhile.
    pub(crate) unsettled: Cell<usize>,
    /// A start after a crash looks at the log: the journal has a record of it, or its state file says that it was in use.
    pub(crate) known: Cell<bool>,
    /// It is being told, for the first large append.
    pub(crate) telling: Cell<bool>,
    /// Bytes written past the journal since it was told of the log's state.
    pub(crate) untold: Cell<usize>,
    /// Which segment's index was last written, and how much of it that covers.
    pub(crate) indexed: Cell<(Offset, u32)>,
    /// The age of the active segment is being looked up.
    pub(crate) aging: Cell<bool>,
    /// Held while its files are synced: who comes second has to wait for what the first one took upon itself.
    pub(crate) syncing: Turn,
    /// Held while aborted transactions are written to their files.
    pub(crate) indexing: Turn,
    /// The log is deleted, and so are its files.
    pub(crate) removed: Cell<bool>,
    /// Since when write-back of the log has failed, for another reason than a full disk.
    pub(crate) failing_since: Cell<Option<Instant>>,
}

/// Taken by one task at a time.
pub(crate) struct Turn(pub(crate) Semaphore);

impl Default for Turn {
    fn default() -> Turn {
        Turn(Semaphore::new(1))
    }
}

impl Marks {
    /// What write-back was forced to do is done.
    pub(crate) fn unforce(&self) {
        self.forced.set(false);
        self.forced_to.set(None);
    }

    /// How long write-back of the log has failed without a success.
    pub(crate) fn failing_for(&self) -> Duration {
        self.failing_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }
}

pub(crate) struct LogState {
    pub(crate) config: LogConfig,
    /// Oldest first; never empty; the last one is active.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) next_index: RaftIndex,
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) applied: Point,
    pub(crate) applied_id: Option<LogId>,
    pub(crate) flushed: Point,
    pub(crate) synced: Place,
    /// Of the entries after `applied`, without gaps.
    pub(crate) unapplied: VecDeque<EntryHeader>,
    /// The last one at or before `applied`, and all after it.
    pub(crate) memberships: Vec<(LogId, Bytes)>,
    pub(crate) vote: Option<VoteRecord>,
    pub(crate) epochs: EpochCache,
    pub(crate) terms: TermStarts,
    pub(crate) aborted: AbortedFiles,
    /// Capacity of the next chunk, by how fast the last one was filled.
    pub(crate) next_chunk: usize,
    pub(crate) chunk_begun: Instant,
    pub(crate) last_append: Instant,
    pub(crate) bypass: Bypass,
    /// Segments written to since the last sync.
    pub(crate) unsynced: Vec<Offset>,
    /// Files were made or renamed since the directory was synced.
    pub(crate) dir_unsynced: bool,
    /// Truncations on their way to the journal; write-back rests meanwhile.
    pub(crate) truncating: u32,
    /// Counts truncations and compactions: what was read or written across one is looked at again.
    pub(crate) generation: u64,
    /// The heads of the sealed segments' indexes have been read from their file.
    pub(crate) heads_loaded: bool,
    /// The log was cut and the producer table not made again yet: it knows what is gone.
    pub(crate) producers_ahead: bool,
    /// The producer table is in the `.snap` file of this point.
    pub(crate) producer_snapshot: Option<Point>,
    /// The state file says what is, and that the log is clean.
    pub(crate) state_file_current: bool,
    /// Why the log refuses everything: damage, or its deletion.
    pub(crate) fenced: Option<StorageError>,
    /// Why it takes no appends for now: the disk refuses to take what it has.
    pub(crate) write_back_error: Option<StorageError>,
}

impl LogState {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            log_start: self.log_start,
            high_watermark: self.applied.next_offset,
            flushed: self.flushed.next_offset,
            log_end: self.log_end,
        }
    }

    pub(crate) fn check(&self) {
        debug_assert!(self.bounds().hold(), "{:?}", self.bounds());
        debug_assert!(self.flushed.place() <= self.end().place());
        debug_assert!(self.applied.next_index <= self.next_index);
        debug_assert_eq!(self.applied.next_index + self.unapplied.len() as u64, self.next_index);
    }

    pub(crate) fn active(&self) -> &Segment {
        match self.segments.back() {
            Some(active) => active,
            None => unreachable!("a log has an active segment"),
        }
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        match self.segments.back_mut() {
            Some(active) => active,
            None => unreachable!("a log has an active segment"),
        }
    }

    /// The place after the last entry.
    pub(crate) fn end(&self) -> Point {
        let active = self.active();
        Point {
            segment: active.base_offset,
            position: active.size,
            next_offset: self.log_end,
            next_index: self.next_index,
        }
    }

    pub(crate) fn segment_at(&self, base: Offset) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&base, |s| s.base_offset).ok()?;
        self.segments.get(at)
    }

    pub(crate) fn segment_at_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&base, |s| s.base_offset).ok()?;
        self.segments.get_mut(at)
    }

    /// Number of the segment that holds `offset` or would.
    pub(crate) fn segment_number(&self, offset: Offset) -> usize {
        self.segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1)
    }

    pub(crate) fn dirty(&self) -> usize {
        self.segments.iter().rev().take_while(|s| !s.finished).map(|s| s.dirty() as usize).sum()
    }
}

impl LogInner {
    pub(crate) fn new(
        key: PartitionKey,
        topic: Arc<str>,
        dir: PathBuf,
        shared: Rc<Shared>,
        state: LogState,
        producers: ProducerTable,
        unclean: bool,
    ) -> Rc<LogInner> {
        Rc::new(LogInner {
            key,
            topic,
            dir,
            shared,
            state: RefCell::new(state),
            producers: RefCell::new(producers),
            on_advance: RefCell::default(),
            growing: Cell::default(),
            last_file: Cell::new(0),
            marks: Marks::default(),
            compaction: Standing::default(),
            unclean,
        })
    }

    pub(crate) fn corrupt(&self, segment: Offset, position: u32, reason: impl Into<Arc<str>>) -> StorageError {
        StorageError::Corrupt { partition: self.key, segment, position: position.into(), reason: reason.into() }
    }

    /// Refuses everything from now on.
    pub(crate) fn fence(&self, error: StorageError) -> StorageError {
        let mut state = self.state.borrow_mut();
        if state.fenced.is_none() {
            tracing::error!(topic = %self.topic, partition = self.key.partition, %error, "partition fenced");
            state.fenced = Some(error.clone());
        }
        error
    }

    fn advanced(&self) {
        let hook = self.on_advance.borrow().clone();
        if let Some(hook) = hook {
            let bounds = self.state.borrow().bounds();
            hook(bounds);
        }
    }
}

impl Owner for Rc<LogInner> {
    fn key(&self) -> PartitionKey {
        self.key
    }

    fn placed(&self, number: u64) -> bool {
        self.last_file.replace(number) != number
    }

    fn flushed(&self, point: Point) {
        self.marks.known.set(true);
        let ready = {
            let state = &mut *self.state.borrow_mut();
            // A truncation may have cut the log below what was on its way. Nothing new is appended until that is all there.
            let end = state.end();
            let point = if point.place() > end.place() { end } else { point };
            if point.place() > state.flushed.place() {
                state.flushed = point;
            }
            self.has_work(state)
        };
        if ready {
            self.shared.write_back.enqueue(self);
        }
    }

    fn growing(&self) -> &Cell<Option<u64>> {
        &self.growing
    }
}

impl Log {
    pub fn key(&self) -> PartitionKey {
        self.0.key
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.0.topic
    }

    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    pub fn bounds(&self) -> Bounds {
        self.0.state.borrow().bounds()
    }

    /// The last entry's; `None` in an empty log, even one of which everything was purged (see [`purged`](Log::purged)).
    pub fn last_log_id(&self) -> Option<LogId> {
        self.0.state.borrow().last
    }

    /// The index that the next entry gets.
    pub fn next_index(&self) -> RaftIndex {
        self.0.state.borrow().next_index
    }

    /// Index of the first entry that is still here, or would be.
    pub fn first_index(&self) -> RaftIndex {
        self.0.state.borrow().purged.map_or(RaftIndex(0), |id| id.index.next())
    }

    /// The last entry that retention has taken out of the log.
    pub fn purged(&self) -> Option<LogId> {
        self.0.state.borrow().purged
    }

    /// The last entry that [`set_applied`](Log::set_applied) was told of. Kept over a clean stop; after a crash it may be
    /// earlier than it was.
    pub fn applied(&self) -> Option<LogId> {
        self.0.state.borrow().applied_id
    }

    /// The last entry that is on this disk, `None` if that is before everything known.
    pub fn flushed_index(&self) -> Option<RaftIndex> {
        self.0.state.borrow().flushed.next_index.0.checked_sub(1).map(RaftIndex)
    }

    pub fn vote(&self) -> Option<VoteRecord> {
        self.0.state.borrow().vote
    }

    /// The last membership entry of the log and its payload.
    pub fn membership(&self) -> Option<(LogId, Bytes)> {
        self.0.state.borrow().memberships.last().cloned()
    }

    /// The last membership entry that is applied.
    pub fn applied_membership(&self) -> Option<(LogId, Bytes)> {
        let state = self.0.state.borrow();
        state.memberships.iter().rev().find(|(id, _)| id.index < state.applied.next_index).cloned()
    }

    /// True if the process before this one ended without closing its stores: what it had promised as a leader but not made
    /// durable is lost, so the group must begin with a new term.
    pub fn unclean_start(&self) -> bool {
        self.0.unclean
    }

    /// Persists a vote, in order with the appends around it.
    pub fn save_vote(&self, vote: VoteRecord, durable: impl FnOnce(Result<(), StorageError>) + 'static) {
        if let Some(error) = self.0.refusal(true) {
            return durable(Err(error));
        }
        let state = &mut *self.0.state.borrow_mut();
        state.vote = Some(vote);
        state.state_file_current = false;
        let payload = state::vote_record(self.0.key, vote);
        self.0.record(state, RecordKind::Vote, payload, Some(Box::new(durable)));
    }

    /// The entries up to `index` are committed: the high watermark moves behind them. Does nothing if it is there already;
    /// entries that are not in the log yet are not counted.
    pub fn set_applied(&self, index: RaftIndex) {
        {
            let state = &mut *self.0.state.borrow_mut();
            let mut last = None;
            while state.unapplied.front().is_some_and(|e| e.id.index <= index) {
                last = state.unapplied.pop_front();
            }
            let Some(last) = last else { return };
            state.applied_id = Some(last.id);
            state.state_file_current = false;
            state.applied = Point {
                segment: last.segment,
                position: last.position + last.size,
                next_offset: last.next_offset(),
                next_index: last.id.index.next(),
            };
            let known = state.memberships.partition_point(|(id, _)| id.index <= index);
            state.memberships.drain(..known.saturating_sub(1));
            self.0.producers.borrow_mut().applied(state.applied.next_offset);
            state.check();
        }
        self.0.advanced();
    }

    /// Has `hook` called whenever the high watermark moves. One hook; it may read the log, but not append to it.
    pub fn on_advance(&self, hook: Rc<dyn Fn(Bounds)>) {
        self.0.on_advance.replace(Some(hook));
    }

    /// The idempotent producers. Appending keeps it; the broker checks batches against it before it proposes them.
    pub fn producers(&self) -> &RefCell<ProducerTable> {
        &self.0.producers
    }

    /// The last entry of every Raft term that has entries at `first` or later.
    pub fn last_of_terms(&self, first: RaftIndex) -> Vec<LogId> {
        let state = self.0.state.borrow();
        state.terms.last_of_terms(first, state.last)
    }

    /// The leader epochs.
    pub fn epoch_cache(&self) -> EpochCache {
        self.0.state.borrow().epochs.clone()
    }

    /// The leader epoch that wrote `offset`, or would write it.
    pub fn term_at(&self, offset: Offset) -> Option<Term> {
        self.0.state.borrow().epochs.epoch_for(offset)
    }

    /// Where the largest leader epoch not after `asked` ended (`EpochCache::end_offset_for`).
    pub fn end_offset_for(&self, asked: Term) -> Option<(Term, Offset)> {
        let state = self.0.state.borrow();
        state.epochs.end_offset_for(asked, state.log_end)
    }

    pub fn config(&self) -> LogConfig {
        self.0.state.borrow().config.clone()
    }

    pub fn set_config(&self, config: LogConfig) {
        self.0.state.borrow_mut().config = config;
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.0.state.borrow().segments.iter().map(|s| u64::from(s.size)).sum()
    }

    pub fn segments(&self) -> Vec<SegmentInfo> {
        let state = self.0.state.borrow();
        let last = state.segments.len() - 1;
        let info = |(at, s): (usize, &Segment)| SegmentInfo {
            base_offset: s.base_offset,
            bytes: s.size.into(),
            active: at == last,
        };
        state.segments.iter().enumerate().map(info).collect()
    }

    /// Why the log refuses everything, if it does.
    pub fn fenced(&self) -> Option<StorageError> {
        self.0.state.borrow().fenced.clone()
    }

    /// Calls `durable` when everything appended to the shard's logs so far is on disk.
    pub fn after_flush(&self, durable: impl FnOnce(Result<(), StorageError>) + 'static) {
        let done: Done = Box::new(durable);
        self.0.shared.after_all(done);
    }
}

impl LogInner {
    /// Runs a look-up that takes several steps, again if the log was cut or compacted meanwhile.
    pub(crate) async fn unchanged<T>(
        &self,
        look: impl AsyncFn() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        loop {
            let generation = self.state.borrow().generation;
            let found = look().await;
            if self.state.borrow().generation == generation {
                return found;
            }
        }
    }

    /// An error, for `unchanged` to swallow, if places looked up at `generation` have moved.
    pub(crate) fn same_generation(&self, generation: u64) -> Result<(), StorageError> {
        match self.state.borrow().generation == generation {
            true => Ok(()),
            false => Err(StorageError::refused("the log was cut or compacted meanwhile")),
        }
    }

    /// Why nothing may be appended. `internal`: a vote, or entries without records. They are few and small, and without them
    /// a replica does not lead and the records it has are not served: a full disk stops them no sooner than an essential log.
    pub(crate) fn refusal(&self, internal: bool) -> Option<StorageError> {
        let (own, essential) = {
            let state = self.state.borrow();
            // An essential log's bytes may wait in memory and in the journal until there is room in its segment.
            let write_back = state
                .write_back_error
                .clone()
                .filter(|e| !(state.config.essential && matches!(e, StorageError::DiskFull { .. })));
            (state.fenced.clone().or(write_back), state.config.essential || internal)
        };
        own.or_else(|| if essential { self.shared.refusal_of_essential() } else { self.shared.refusal() })
    }
}
