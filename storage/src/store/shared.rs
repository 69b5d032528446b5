//! What the logs of a shard share: the journal, write-back, memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core_pinning::BLOCK;
use core_pinning::sync::Signal;

use super::budgets::{Cache, Counter, Dirty};
use super::files::Files;
use super::index_memory::Indexes;
use super::thrift::Thrift;
use super::write_back::WriteBack;
use crate::chunk::Chunk;
use crate::error::StorageError;
use crate::journal::{Done, Journal};
use crate::ledger::Ledger;
use crate::log::LogInner;
use crate::options::StoreOptions;
use crate::store::ReadCount;

const CHUNK_BYTES_FLOOR: usize = 16 << 10;
/// What write-back waits for, if it may.
const WRITE_BYTES: usize = 128 << 10;

pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) journal: Journal<Rc<LogInner>>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) write_back: WriteBack,
    pub(crate) files: Files,
    pub(crate) dirty: Dirty,
    /// Capacity of all chunks of all logs.
    pub(crate) memory: Counter,
    pub(crate) cache: Cache,
    pub(crate) indexes: Indexes,
    pub(crate) stats: Rc<Counters>,
    /// Logs that have memory to give back, some time.
    pub(crate) warm_logs: RefCell<Vec<Rc<LogInner>>>,
    pub(crate) warm_signal: Signal,
    /// Logs with something on its way past the journal or waiting behind it.
    pub(crate) bypassing: RefCell<Vec<Rc<LogInner>>>,
    /// Such writes in flight.
    pub(crate) bypass_writes: Counter,
    /// Nothing is appended any more.
    pub(crate) closing: Cell<bool>,
    /// The store's tasks end.
    pub(crate) ending: Cell<bool>,
    /// Partition directories were made or removed since the last sync.
    pub(crate) root_unsynced: Cell<bool>,
    pub(crate) thrift: Rc<Thrift>,
}

/// Asks the journal to call `done` after all that it has by the time that nobody holds the gate any more.
pub(crate) struct Gate {
    journal: Journal<Rc<LogInner>>,
    done: Option<Done>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            self.journal.after_all(done);
        }
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) scanned_bytes: Counter,
    pub(crate) disk_reads: Counter,
    /// Of segments.
    pub(crate) data: ReadCounter,
    /// Blocks of `.idx` files, by look-ups.
    pub(crate) index_pages: ReadCounter,
    /// `indexes` files, and whole `.idx` files.
    pub(crate) indexes: ReadCounter,
    pub(crate) appended_bytes: Counter,
    pub(crate) write_back_bytes: Counter,
    pub(crate) bypass_bytes: Counter,
    pub(crate) checkpoints: Counter,
}

/// Reads of the disk and what they gave.
#[derive(Default)]
pub(crate) struct ReadCounter {
    reads: Counter,
    bytes: Counter,
}

impl ReadCounter {
    pub(crate) fn add(&self, bytes: usize) {
        self.reads.add(1);
        self.bytes.add(bytes);
    }

    pub(crate) fn get(&self) -> ReadCount {
        ReadCount { reads: self.reads.get(), bytes: self.bytes.get() }
    }
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        journal: Journal<Rc<LogInner>>,
        ledger: Rc<Ledger>,
        dirty: Dirty,
    ) -> Shared {
        Shared {
            journal,
            ledger,
            write_back: WriteBack::new(options.write_back_in_flight),
            files: Files::new(options.open_files_max),
            dirty,
            memory: Counter::default(),
            cache: Cache::new(options.cache_budget),
            indexes: Indexes::new(options.index_budget),
            stats: Rc::default(),
            warm_logs: RefCell::default(),
            warm_signal: Signal::new(),
            bypassing: RefCell::default(),
            bypass_writes: Counter::default(),
            closing: Cell::new(false),
            ending: Cell::new(false),
            root_unsynced: Cell::new(false),
            thrift: Rc::default(),
            options,
        }
    }

    /// Calls `done` when everything appended to any log so far is durable. No log is borrowed.
    pub(crate) fn after_all(&self, done: Done) {
        let logs = self.bypassing.borrow().clone();
        let gate = Rc::new(Gate { journal: self.journal.clone(), done: Some(done) });
        logs.iter().for_each(|log| log.pass(gate.clone()));
    }

    /// Waits until everything appended to any log so far is durable.
    pub(crate) async fn flush(&self) -> Result<(), StorageError> {
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        self.after_all(Box::new(move |result| {
            let _ = sender.send(result);
        }));
        receiver.await.unwrap_or(Err(StorageError::Closed))
    }

    /// Why an essential log of the shard (see `LogConfig::essential`) takes no appends.
    pub(crate) fn refusal_of_essential(&self) -> Option<StorageError> {
        self.ended().or_else(|| self.journal.refusal_of_essential())
    }

    /// Why nothing is done any more, for good.
    pub(crate) fn ended(&self) -> Option<StorageError> {
        if self.closing.get() { Some(StorageError::Closed) } else { self.journal.failure() }
    }

    /// Why no other log of the shard takes appends.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        if self.closing.get() {
            return Some(StorageError::Closed);
        }
        self.journal.refusal().or_else(|| self.write_back.disk_full())
    }

    /// Largest chunk of a log, so that all logs with memory together stay within the dirty budget.
    pub(crate) fn chunk_bytes_max(&self) -> usize {
        let share = self.options.dirty_budget / (2 * self.warm_logs.borrow().len().max(1));
        share.clamp(CHUNK_BYTES_FLOOR, self.options.chunk_bytes_max.max(CHUNK_BYTES_FLOOR))
    }

    /// Somebody waits for write-back, or soon will.
    pub(crate) fn is_behind(&self) -> bool {
        let files = self.journal.live_files() * 4 > self.options.journal_files_max * 3;
        files || self.dirty.is_pressing() || self.thrift.is_on() || self.closing.get() || self.ending.get()
    }

    /// Full chunks of so many bytes of a log are worth a write; less where many logs wait for theirs.
    pub(crate) fn write_back_enough(&self) -> u32 {
        let share = self.options.dirty_budget / (4 * self.warm_logs.borrow().len().max(1));
        share.clamp(BLOCK, WRITE_BYTES) as u32
    }

    /// Tells the store's tasks to end.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        self.warm_signal.notify();
        self.journal.notify_progress();
        self.write_back.notify();
    }

    pub(crate) fn warm(&self, log: Rc<LogInner>) {
        self.warm_logs.borrow_mut().push(log);
        self.warm_signal.notify();
    }

    /// A chunk leaves its log.
    pub(crate) fn forget_chunk(&self, chunk: &Chunk) {
        self.memory.sub(chunk.capacity());
        if chunk.cached {
            self.cache.forget(chunk.capacity());
        }
    }
}
