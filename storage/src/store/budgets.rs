//! Counted memory: what is not yet in the segment files, what is kept for readers, what the indexes take.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use core_pinning::sync::Event;

use crate::log::LogInner;
use crate::model::Offset;

/// A number that goes up and down.
#[derive(Default)]
pub(crate) struct Counter(Cell<usize>);

impl Counter {
    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }

    pub(crate) fn add(&self, n: usize) {
        self.0.set(self.0.get() + n);
    }

    pub(crate) fn sub(&self, n: usize) {
        debug_assert!(self.0.get() >= n, "counted down below zero");
        self.0.set(self.0.get().saturating_sub(n));
    }
}

/// How far the shard's write-back is behind its appends. The caller of [`Log::append`](crate::Log::append) asks it first:
/// appending itself neither waits nor refuses for it.
#[derive(Clone)]
pub struct Dirty(Rc<DirtyInner>);

struct DirtyInner {
    used: Counter,
    limit: usize,
    /// More journal files than there should be.
    journal_over: Cell<bool>,
    room: Event,
}

impl Dirty {
    pub(crate) fn new(limit: usize) -> Dirty {
        Dirty(Rc::new(DirtyInner {
            used: Counter::default(),
            limit,
            journal_over: Cell::new(false),
            room: Event::new(),
        }))
    }

    /// Bytes appended and not yet in their segment files.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// Bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// True if appends should wait: write-back or checkpoints have fallen behind.
    pub fn is_over(&self) -> bool {
        self.used() >= self.limit() || self.0.journal_over.get()
    }

    /// Waits until [`is_over`](Dirty::is_over) is false.
    pub async fn room(&self) {
        self.0.room.wait_for(|| !self.is_over()).await
    }

    /// True if it is time to write back what does not fill chunks.
    pub(crate) fn is_pressing(&self) -> bool {
        self.used() > self.limit() / 4 * 3
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.used.add(bytes);
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.0.used.sub(bytes);
        if !self.is_over() {
            self.0.room.notify_all();
        }
    }

    pub(crate) fn set_journal_over(&self, over: bool) {
        self.0.journal_over.set(over);
        if !self.is_over() {
            self.0.room.notify_all();
        }
    }
}

/// Full chunks that are in the file and are kept for readers, over all logs of the shard, the first written going first.
pub(crate) struct Cache {
    limit: usize,
    bytes: Counter,
    queue: RefCell<VecDeque<CachedChunk>>,
}

struct CachedChunk {
    log: Weak<LogInner>,
    segment: Offset,
    start: u32,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Cache {
        Cache { limit, bytes: Counter::default(), queue: RefCell::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Takes note of a chunk; `trim` makes room for it.
    pub(crate) fn add(&self, log: &Rc<LogInner>, segment: Offset, start: u32, bytes: usize) {
        self.bytes.add(bytes);
        self.queue.borrow_mut().push_back(CachedChunk { log: Rc::downgrade(log), segment, start });
    }

    /// A chunk that was counted is gone.
    pub(crate) fn forget(&self, bytes: usize) {
        self.bytes.sub(bytes);
    }

    /// Drops the oldest chunks until the rest fits, and forgets those at the front that are gone. No log may be borrowed.
    pub(crate) fn trim(&self) {
        loop {
            let oldest = {
                let mut queue = self.queue.borrow_mut();
                let over = self.bytes.get() > self.limit;
                let gone = |c: &CachedChunk| c.log.upgrade().is_none_or(|log| !log.has_chunk(c.segment, c.start));
                if over || queue.front().is_some_and(gone) { queue.pop_front() } else { None }
            };
            let Some(oldest) = oldest else { return };
            if let Some(log) = oldest.log.upgrade() {
                log.drop_chunks(oldest.segment, oldest.start);
            }
        }
    }
}
