//! The store of one shard: its logs, their journal, and the tasks that work behind them.
//!
//! ```text
//!  append --> chunk (memory, readers) --> journal: durable --> write-back: segment file --> checkpoint: synced
//!                                                                                           journal file free
//!         large appends: segment file, durable --> a note of it in the journal (`log::bypass`)
//! ```
//! Memory: `dirty_budget` (the caller waits for [`Dirty`]) + `cache_budget` + `index_budget` + the journal's writes in flight.

pub(crate) mod background;
pub(crate) mod budgets;
mod checkpoint;
mod close;
mod files;
mod index_memory;
pub(crate) mod partitions;
mod rest;
pub(crate) mod shared;
mod strays;
pub(crate) mod thrift;
pub(crate) mod write_back;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core_pinning::disk::fs;
use core_pinning::{Queue, Task, spawn};
use futures::StreamExt;

use crate::durable;
use crate::error::{Doing, StorageError};
use crate::journal::{Journal, JournalOptions};
use crate::layout;
use crate::ledger::{self, Ledger};
use crate::log::{Log, LogInner};
use crate::map::{HashMap, HashSet};
use crate::model::PartitionKey;
use crate::options::StoreOptions;
use budgets::Dirty;
use shared::Shared;

/// The logs of one shard. Clones are the same store.
#[derive(Clone)]
pub struct Store(Rc<StoreInner>);

struct StoreInner {
    shared: Rc<Shared>,
    logs: RefCell<HashMap<PartitionKey, Rc<LogInner>>>,
    unclean: bool,
    /// Partitions that other shards' ledgers named when the store was opened: the number of shards may have changed.
    named_elsewhere: RefCell<HashSet<PartitionKey>>,
    /// Partitions deleted in this run: one that comes again must not find its old files after a loss of power.
    deleted: RefCell<HashSet<PartitionKey>>,
    tasks: RefCell<Vec<Task<()>>>,
    closed: Cell<bool>,
}

/// What opening a store found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The process before ended without closing its stores.
    pub unclean: bool,
}

/// Reads of the disk and the bytes they gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCount {
    pub reads: usize,
    pub bytes: usize,
}

/// What a store holds and has done, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreStats {
    pub logs: usize,
    /// Bytes appended and not in the segment files.
    pub dirty_bytes: usize,
    /// Memory of the logs' tails.
    pub chunk_bytes: usize,
    /// The part of it that is in the files too.
    pub cache_bytes: usize,
    pub open_files: usize,
    /// Bytes of the batches appended, segment headers included. What the disk had to take for them is `journal_bytes` +
    /// `write_back_bytes` + `bypass_bytes`: divided by this it is the write amplification.
    pub appended_bytes: u64,
    /// Bytes written back to segment files.
    pub write_back_bytes: u64,
    /// Bytes written to segment files past the journal.
    pub bypass_bytes: u64,
    pub journal_files: usize,
    pub journal_bytes: u64,
    pub journal_writes: u64,
    pub journal_records: u64,
    pub checkpoints: usize,
    /// Reads for consumers that went to the disk.
    pub disk_reads: usize,
    /// Reads of segment files, for whatever purpose.
    pub data_reads: ReadCount,
    /// Reads of one block of a segment's index, to look something up.
    pub index_page_reads: ReadCount,
    /// Reads of whole indexes, and of the file that holds the heads of a partition's: once per partition or segment.
    pub index_reads: ReadCount,
    /// Memory of indexes that can be read again.
    pub index_bytes: usize,
    /// Bytes of segments read to find out what is in them: at opening, and to make indexes.
    pub scanned_bytes: usize,
}

/// Logs synced at a time.
const SYNCS_IN_FLIGHT: usize = 16;

impl Store {
    /// Opens the shard's store with a new journal. All journals of the data directory have been replayed
    /// ([`FoundJournals::replay`](crate::FoundJournals::replay)): what is left of this shard's is taken for free space.
    pub async fn open(options: StoreOptions) -> Result<(Store, OpenReport), StorageError> {
        let dir = layout::journal_dir(&options.data_dir, options.shard.0);
        let partitions = layout::partitions_root(&options.data_dir);
        fs::create_dir_all(&partitions).await.doing("create", &partitions)?;
        fs::create_dir_all(&dir).await.doing("create", &dir)?;
        // The first journal's directory must not be lost with the journal in it.
        let root = layout::journal_root(&options.data_dir);
        fs::sync_dir(&root).await.doing("sync", &root)?;
        let mark = dir.join(layout::UNCLEAN_MARK);
        let unclean = fs::exists(&mark).await.doing("look at", &mark)?;
        let named = ledger::all_partitions(&options.data_dir).await?;
        let ledger = Rc::new(Ledger::open(&options.data_dir, options.shard.0).await?);
        let dirty = Dirty::new(options.dirty_budget);
        let backlog = dirty.clone();
        let journal = Journal::open(JournalOptions {
            dir,
            shard: options.shard.0,
            file_bytes: options.journal_file_bytes,
            write_bytes: options.journal_write_bytes.min(options.journal_file_bytes / 4),
            files_max: options.journal_files_max,
            over: Box::new(move |over| backlog.set_journal_over(over)),
            ledger: ledger.clone(),
        })
        .await?;
        let shared = Rc::new(Shared::new(options, journal, ledger, dirty));
        let tasks = vec![
            spawn(Queue::Background, "write-back queue", write_back::WriteBack::run(shared.clone())),
            spawn(Queue::Background, "checkpoints", checkpoint::run(shared.clone())),
            spawn(Queue::Background, "idle logs", rest::run(shared.clone())),
        ];
        let inner = StoreInner {
            shared,
            logs: RefCell::default(),
            unclean,
            named_elsewhere: RefCell::new(named),
            deleted: RefCell::default(),
            tasks: RefCell::new(tasks),
            closed: Cell::new(false),
        };
        Ok((Store(Rc::new(inner)), OpenReport { unclean }))
    }

    /// How far appends are ahead of write-back: ask it before appending.
    pub fn dirty(&self) -> Dirty {
        self.0.shared.dirty.clone()
    }

    /// Why no log of the store takes appends, if that is so.
    pub fn refusal(&self) -> Option<StorageError> {
        self.0.shared.refusal()
    }

    pub fn stats(&self) -> StoreStats {
        let shared = &self.0.shared;
        let journal = shared.journal.stats();
        StoreStats {
            logs: self.0.logs.borrow().len(),
            dirty_bytes: shared.dirty.used(),
            chunk_bytes: shared.memory.get(),
            cache_bytes: shared.cache.bytes(),
            open_files: shared.files.len(),
            appended_bytes: shared.stats.appended_bytes.get() as u64,
            write_back_bytes: shared.stats.write_back_bytes.get() as u64,
            bypass_bytes: shared.stats.bypass_bytes.get() as u64,
            journal_files: journal.files,
            journal_bytes: journal.written_bytes,
            journal_writes: journal.writes,
            journal_records: journal.records,
            checkpoints: shared.stats.checkpoints.get(),
            disk_reads: shared.stats.disk_reads.get(),
            data_reads: shared.stats.data.get(),
            index_page_reads: shared.stats.index_pages.get(),
            index_reads: shared.stats.indexes.get(),
            index_bytes: shared.indexes.bytes(),
            scanned_bytes: shared.stats.scanned_bytes.get(),
        }
    }

    /// Waits until everything appended to any log is in its segment file, and synced. Tests and benchmarks ask for it.
    pub async fn write_back(&self) -> Result<(), StorageError> {
        let logs = self.all_logs();
        self.write_all(&logs).await?;
        let syncs = futures::stream::iter(logs.iter().filter(|log| !log.is_deleted()));
        let syncs = syncs.map(|log| log.sync_files()).buffer_unordered(SYNCS_IN_FLIGHT);
        let results: Vec<Result<(), StorageError>> = syncs.collect().await;
        results.into_iter().collect()
    }

    fn all_logs(&self) -> Vec<Rc<LogInner>> {
        self.0.logs.borrow().values().cloned().collect()
    }

    /// Waits until everything appended to `logs` is in their segment files.
    async fn write_all(&self, logs: &[Rc<LogInner>]) -> Result<(), StorageError> {
        let shared = &self.0.shared;
        shared.flush().await?;
        let written = |log: &LogInner| log.is_deleted() || log.state.borrow().is_written_back();
        logs.iter().filter(|log| !written(log)).for_each(|log| shared.write_back.force(log));
        // One after the other: looking at all of them at each step takes its time where they are thousands.
        for log in logs {
            while !written(log) {
                let failure = shared.journal.failure().or_else(|| shared.write_back.disk_full());
                if let Some(error) = failure.or_else(|| log.state.borrow().write_back_error.clone()) {
                    return Err(error);
                }
                shared.write_back.force_again(log);
                shared.write_back.progress().await;
            }
        }
        Ok(())
    }

    /// Closes the store: everything is written back, files get their exact sizes, and the next start has nothing to recover.
    /// On an error the next start recovers as after a crash. Nothing may use the logs meanwhile.
    pub async fn close(&self) -> Result<(), StorageError> {
        if self.0.closed.replace(true) {
            return Ok(());
        }
        let shared = &self.0.shared;
        shared.closing.set(true);
        let logs = self.all_logs();
        self.write_all(&logs).await?;
        shared.end();
        let tasks = self.0.tasks.take();
        for task in tasks {
            task.await;
        }
        shared.write_back.all_finished().await;
        if let Some(failure) = shared.journal.failure() {
            // A sync may have failed, of a checkpoint that was under way.
            return Err(failure);
        }
        close::close_logs(shared, &logs).await?;
        let partitions = layout::partitions_root(&shared.options.data_dir);
        fs::sync_dir(&partitions).await.doing("sync", &partitions)?;
        shared.journal.stop().await;
        shared.files.clear();
        // The mark goes first: a crash in between finds the journal, whose replay changes nothing.
        let dir = layout::journal_dir(&shared.options.data_dir, shared.options.shard.0);
        let mark = dir.join(layout::UNCLEAN_MARK);
        durable::remove(&mark).await?;
        shared.ledger.closed().await?;
        shared.journal.retire_all().await?;
        self.0.logs.borrow_mut().clear();
        shared.warm_logs.borrow_mut().clear();
        Ok(())
    }

    /// The log of a partition that was created or loaded.
    pub fn log(&self, key: PartitionKey) -> Option<Log> {
        self.0.logs.borrow().get(&key).cloned().map(Log)
    }
}
