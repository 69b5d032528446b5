//! The journal of one shard: the only place where durability is waited for.
//!
//! Records of all partitions go into one sequence of pre-written files, in groups, with direct `O_DSYNC` writes. What is
//! appended while writes are in flight goes into the next write.
//!
//! ```text
//!   retired < full files (oldest first) < current file: [durable | in flight | free] < prepared file
//!                                         pending records wait for a place in flight
//! ```
//! - Up to two writes are in flight, never on one block: a write that begins while another is in flight starts a block of its
//!   own; otherwise it continues in the last block, whose old bytes it repeats exactly, so that a torn write harms nothing.
//! - Acknowledgements are given in the order of the records, whatever order the writes end in.
//! - A record is durable only if all before it are (`scan` stops at the first gap), so a record may rely on earlier ones.
//! - A failed write is the end: what reached the disk is unknown, and the next start finds out.

mod file;
pub(crate) mod record;
pub(crate) mod retire;
pub(crate) mod scan;
mod writer;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use core_pinning::sync::{Event, Signal};
use core_pinning::{AlignedBuf, File, Queue, Task, spawn};

use crate::chunk::ChunkSlice;
use crate::error::StorageError;
use crate::ledger::Ledger;
use crate::model::{Offset, PartitionKey};
use crate::point::Point;
use file::{JournalFiles, ReadyFile};
use record::{FileId, RecordKind};

pub(crate) use file::{file_name, parse_file_name, parse_spare};

/// Called once, in log order: with `Ok` when the record is on disk.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StorageError>)>;

/// Whose records these are: a log.
pub(crate) trait Owner: Clone + 'static {
    fn key(&self) -> PartitionKey;
    /// A record went into file `number`; true if it is the first of this owner there.
    fn placed(&self, number: u64) -> bool;
    /// Everything up to `point` is on disk. Called before the record's `Done`.
    fn flushed(&self, point: Point);
    /// The journal's note of the owner's last pending record that may still grow.
    fn growing(&self) -> &Cell<Option<u64>>;
}

pub(crate) struct JournalOptions {
    pub(crate) dir: PathBuf,
    pub(crate) shard: u16,
    pub(crate) file_bytes: usize,
    pub(crate) write_bytes: usize,
    /// Files that should hold records at most, and spare ones that are kept.
    pub(crate) files_max: usize,
    /// Told when there are more files with records than that, and when there are not any more. A journal that has failed is
    /// not waited for.
    pub(crate) over: Box<dyn Fn(bool)>,
    pub(crate) ledger: Rc<Ledger>,
}

/// 1 fills blocks best, above 2 gains nothing (measured).
const WRITES_IN_FLIGHT: usize = 2;
/// Room that essential records leave in the last file, for marks and votes.
const ESSENTIAL_RESERVE: usize = 256 << 10;

pub(crate) struct Journal<O: Owner>(Rc<Inner<O>>);

impl<O: Owner> Clone for Journal<O> {
    fn clone(&self) -> Self {
        Journal(self.0.clone())
    }
}

struct Inner<O> {
    options: JournalOptions,
    files: JournalFiles,
    state: RefCell<State<O>>,
    /// There is something to write, or a place to write it.
    writer_wake: Signal,
    preparer_wake: Signal,
    /// A file became full, all writes into full files ended, files were freed, or the journal failed.
    progress: Event,
    failed: Event,
    closing: Cell<bool>,
    tasks: RefCell<Vec<Task<()>>>,
}

struct State<O> {
    current: CurrentFile<O>,
    prepared: Option<ReadyFile>,
    full: VecDeque<FullFile<O>>,
    pending: VecDeque<Item<O>>,
    /// Number of the first pending item; items are numbered in the order of their arrival.
    first_pending: u64,
    pending_bytes: usize,
    next_sequence: u64,
    /// In the order of the journal.
    in_flight: VecDeque<WriteInFlight<O>>,
    next_write: u64,
    failure: Option<StorageError>,
    /// Why there is no next file; retried.
    disk_full: Option<StorageError>,
    written_bytes: u64,
    writes: u64,
    records: u64,
}

struct CurrentFile<O> {
    id: FileId,
    file: File,
    end: usize,
    /// The journal's bytes in the block that `end` lies in.
    tail: Vec<u8>,
    owners: Vec<O>,
}

struct FullFile<O> {
    id: FileId,
    owners: Vec<O>,
}

struct WriteInFlight<O> {
    id: u64,
    file: u64,
    first_sequence: u64,
    done: bool,
    items: Vec<Item<O>>,
}

struct Item<O> {
    owner: Option<O>,
    body: Body,
    point: Option<Point>,
    done: Vec<Done>,
}

enum Body {
    Data {
        segment: Offset,
        position: u32,
        bytes: ChunkSlice,
    },
    Meta {
        kind: RecordKind,
        payload: Vec<u8>,
    },
    /// Only waits for those before it.
    Nothing,
}

/// One write to issue.
struct NextWrite {
    id: u64,
    file: File,
    buffer: AlignedBuf,
    position: u64,
}

/// The oldest files, if they can be freed: what has records in them.
pub(crate) struct OldFiles<O> {
    /// Number of the last of them.
    pub(crate) last: u64,
    pub(crate) owners: Vec<O>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JournalStats {
    pub(crate) files: usize,
    pub(crate) written_bytes: u64,
    pub(crate) writes: u64,
    pub(crate) records: u64,
}

impl<O: Owner> Journal<O> {
    /// Begins a new journal in `options.dir`; returns when its first record is durable. What was there has been replayed.
    pub(crate) async fn open(options: JournalOptions) -> Result<Journal<O>, StorageError> {
        assert!(options.file_bytes.is_multiple_of(core_pinning::BLOCK));
        assert!(2 * options.write_bytes + 2 * core_pinning::BLOCK <= options.file_bytes);
        let files =
            JournalFiles::open(options.dir.clone(), options.shard, options.file_bytes, options.files_max).await?;
        let first = files.take(scan::FIRST_FILE, true).await?;
        options.ledger.begun(scan::FIRST_FILE).await?;
        let state = State {
            current: CurrentFile::new(first),
            prepared: None,
            full: VecDeque::new(),
            pending: VecDeque::new(),
            first_pending: 0,
            pending_bytes: 0,
            next_sequence: 0,
            in_flight: VecDeque::new(),
            next_write: 0,
            failure: None,
            disk_full: None,
            written_bytes: 0,
            writes: 0,
            records: 0,
        };
        let journal = Journal(Rc::new(Inner {
            options,
            files,
            state: RefCell::new(state),
            writer_wake: Signal::new(),
            preparer_wake: Signal::new(),
            progress: Event::new(),
            failed: Event::new(),
            closing: Cell::new(false),
            tasks: RefCell::default(),
        }));
        let writing = spawn(Queue::Serve, "journal writer", journal.0.clone().write());
        let preparing = spawn(Queue::Background, "journal files", journal.0.clone().prepare());
        journal.0.tasks.borrow_mut().extend([writing, preparing]);
        journal.append_meta(None, RecordKind::Opened, Vec::new(), None);
        journal.flush().await?;
        Ok(journal)
    }

    /// Places `bytes` of a segment in the journal. `point` is where their last entry ends; `None` where what follows at once
    /// brings one.
    pub(crate) fn append_data(
        &self,
        owner: &O,
        segment: Offset,
        position: u32,
        bytes: ChunkSlice,
        point: Option<Point>,
        done: impl IntoIterator<Item = Done>,
    ) {
        let Some(mut state) = self.accepting() else { return self.refuse(done) };
        let state = &mut *state;
        state.pending_bytes += bytes.len();
        let grown = owner.growing().get().and_then(|id| id.checked_sub(state.first_pending)).and_then(|at| {
            let item = state.pending.get_mut(at as usize)?;
            let joined = match &mut item.body {
                Body::Data { segment: of, bytes: before, .. } => *of == segment && before.join(&bytes),
                _ => false,
            };
            joined.then_some(item)
        });
        match grown {
            Some(item) => {
                item.point = point.or(item.point);
                item.done.extend(done);
            }
            None => {
                owner.growing().set(Some(state.first_pending + state.pending.len() as u64));
                state.pending.push_back(Item {
                    owner: Some(owner.clone()),
                    body: Body::Data { segment, position, bytes },
                    point,
                    done: done.into_iter().collect(),
                });
            }
        }
        self.0.writer_wake.notify();
    }

    /// Tells of bytes that are in their segment's file (see `RecordKind::Placed`), in order as `append_data`.
    pub(crate) fn append_placed(&self, owner: &O, payload: Vec<u8>, point: Point, done: Vec<Done>) {
        owner.growing().set(None);
        let Some(mut state) = self.accepting() else { return self.refuse(done) };
        state.pending_bytes += payload.len();
        let body = Body::Meta { kind: RecordKind::Placed, payload };
        state.pending.push_back(Item { owner: Some(owner.clone()), body, point: Some(point), done });
        self.0.writer_wake.notify();
    }

    /// Places another record in the journal. Its payload begins with the owner's key. It comes after everything that the
    /// owner appended before, and before everything that it appends later.
    pub(crate) fn append_meta(&self, owner: Option<&O>, kind: RecordKind, payload: Vec<u8>, done: Option<Done>) {
        if let Some(owner) = owner {
            owner.growing().set(None);
        }
        assert!(payload.len() + record::RECORD_HEADER_BYTES + record::RECORDS_START <= self.0.options.file_bytes);
        let Some(mut state) = self.accepting() else { return self.refuse(done) };
        state.pending_bytes += payload.len();
        let body = Body::Meta { kind, payload };
        state.pending.push_back(Item { owner: owner.cloned(), body, point: None, done: done.into_iter().collect() });
        self.0.writer_wake.notify();
    }

    /// The state, unless the journal has failed.
    fn accepting(&self) -> Option<RefMut<'_, State<O>>> {
        let state = self.0.state.borrow_mut();
        state.failure.is_none().then_some(state)
    }

    fn refuse(&self, done: impl IntoIterator<Item = Done>) {
        if let Some(failure) = self.failure() {
            done.into_iter().for_each(|done| done(Err(failure.clone())));
        }
    }

    /// Calls `done` when everything appended so far is durable.
    pub(crate) fn after_all(&self, done: Done) {
        let Some(mut state) = self.accepting() else { return self.refuse(Some(done)) };
        let waiting = &mut *state;
        if let Some(last) = waiting.pending.back_mut() {
            last.done.push(done);
        } else if let Some(last) = waiting.in_flight.back_mut() {
            last.items.push(Item { owner: None, body: Body::Nothing, point: None, done: vec![done] });
        } else {
            drop(state);
            done(Ok(()));
        }
    }

    /// Waits until the writes that are under way have ended, well or not.
    pub(crate) async fn writes_ended(&self) {
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        let done: Done = Box::new(move |_| {
            let _ = sender.send(());
        });
        match self.0.state.borrow_mut().in_flight.back_mut() {
            Some(last) => last.items.push(Item { owner: None, body: Body::Nothing, point: None, done: vec![done] }),
            None => return,
        }
        let _ = receiver.await;
    }

    /// Waits until everything appended so far is durable.
    pub(crate) async fn flush(&self) -> Result<(), StorageError> {
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        self.after_all(Box::new(move |result| {
            let _ = sender.send(result);
        }));
        receiver.await.unwrap_or(Err(StorageError::Closed))
    }

    /// Why nothing may be appended: a failed write, for good, or a full disk, for now.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        let state = self.0.state.borrow();
        state.failure.clone().or_else(|| state.disk_full.clone())
    }

    /// The same for what may use up the current file while there is no room for another.
    pub(crate) fn refusal_of_essential(&self) -> Option<StorageError> {
        let state = self.0.state.borrow();
        let full = state.current.end + state.pending_bytes + ESSENTIAL_RESERVE > self.0.options.file_bytes;
        state.failure.clone().or_else(|| state.disk_full.clone().filter(|_| full))
    }

    pub(crate) fn failure(&self) -> Option<StorageError> {
        self.0.state.borrow().failure.clone()
    }

    /// Waits until the journal fails, for as long as it exists.
    pub(crate) async fn failed(&self) -> StorageError {
        loop {
            let failed = self.0.failed.listen();
            match self.failure() {
                Some(error) => return error,
                None => failed.await,
            }
        }
    }

    /// Keeps up to so many spare files from now on, and removes in the background what is too much.
    pub(crate) fn set_spares_max(&self, max: usize) {
        self.0.files.set_spares_max(max);
        self.0.preparer_wake.notify();
    }

    /// Ends the journal: something on which its promises rest has failed.
    pub(crate) fn fail(&self, reason: &str) {
        self.0.fail(reason);
    }

    /// Files that hold records.
    pub(crate) fn live_files(&self) -> usize {
        self.0.state.borrow().full.len() + 1
    }

    /// Has those who wait for `progress` look around.
    pub(crate) fn notify_progress(&self) {
        self.0.progress.notify_all();
    }

    /// Waits until there may be other files to free than before, or the journal fails.
    pub(crate) async fn progress(&self) {
        self.0.progress.listen().await
    }

    /// Up to `count` of the oldest full files whose writes have all ended.
    pub(crate) fn oldest(&self, count: usize) -> Option<OldFiles<O>> {
        let state = self.0.state.borrow();
        let busy = state.in_flight.front().map_or(u64::MAX, |w| w.file);
        let settled: Vec<_> = state.full.iter().take(count).take_while(|f| f.id.number < busy).collect();
        let last = settled.last()?.id.number;
        Some(OldFiles { last, owners: settled.iter().flat_map(|f| f.owners.iter().cloned()).collect() })
    }

    /// Frees the full files up to number `last`: nothing in them is needed any more. Everything was flushed since it was.
    pub(crate) async fn release(&self, last: u64) -> Result<(), StorageError> {
        let settled = {
            let state = self.0.state.borrow();
            state.in_flight.front().map_or(state.next_sequence, |write| write.first_sequence)
        };
        self.0.options.ledger.released(last + 1, settled).await?;
        loop {
            let number = match self.0.state.borrow().full.front() {
                Some(oldest) if oldest.id.number <= last => oldest.id.number,
                _ => break,
            };
            // Oldest first: a crash in between leaves a run without gaps.
            self.0.files.retire(number).await?;
            self.0.state.borrow_mut().full.pop_front();
        }
        self.0.preparer_wake.notify();
        self.0.files_changed();
        Ok(())
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let state = self.0.state.borrow();
        JournalStats {
            files: state.full.len() + 1,
            written_bytes: state.written_bytes,
            writes: state.writes,
            records: state.records,
        }
    }

    /// Ends the tasks. Appended records that are not durable yet may or may not become so.
    pub(crate) async fn stop(&self) {
        self.0.closing.set(true);
        self.0.writer_wake.notify();
        self.0.preparer_wake.notify();
        // Not cancelled: a rename on its way would still happen, some time.
        let tasks = self.0.tasks.take();
        for task in tasks {
            task.await;
        }
    }

    /// After `stop`, when nothing here is needed any more: the next start finds nothing to replay.
    pub(crate) async fn retire_all(&self) -> Result<(), StorageError> {
        let dir = self.0.files.dir();
        let ids: Vec<FileId> = scan::live_files(dir, None).await?.files.into_iter().map(|(id, _)| id).collect();
        retire::retire(dir, &ids).await
    }
}

impl<O> CurrentFile<O> {
    fn new(ready: ReadyFile) -> CurrentFile<O> {
        CurrentFile { id: ready.id, file: ready.file, end: record::RECORDS_START, tail: Vec::new(), owners: Vec::new() }
    }
}
