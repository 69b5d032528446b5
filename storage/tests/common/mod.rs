//! What the engine's tests share: a data directory, batches whose contents are known, a model of a log.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::{ShardId, time};
use corelane_storage::model::{LogId, NodeId, Offset, PartitionKey, RaftIndex, Term, TopicId};
use corelane_storage::producer_state::AbortedTransaction;
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec};
use corelane_storage::{
    EntryKind, FirstState, Log, LogConfig, LogEntry, PartitionSpec, ReadLimit, StorageError, Store, StoreOptions,
    VoteRecord, recover_journals,
};

pub const TERM: Term = Term(1);

pub fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        journal_file_bytes: 1 << 20,
        journal_files_max: 4,
        journal_write_bytes: 128 << 10,
        chunk_bytes_max: 64 << 10,
        idle: Duration::from_millis(200),
        ..StoreOptions::new(dir, ShardId(0), 8 << 20, 4 << 20)
    }
}

pub fn spec(partition: u32) -> PartitionSpec {
    spec_with(partition, LogConfig::default())
}

pub fn spec_with(partition: u32, config: LogConfig) -> PartitionSpec {
    PartitionSpec { topic: "t".into(), key: PartitionKey { topic: TopicId([7; 16]), partition }, config }
}

pub fn first() -> FirstState {
    let vote = VoteRecord { term: TERM, node: NodeId(1), committed: true };
    FirstState { vote, membership: Bytes::from_static(b"members") }
}

/// Recovers what is in the directory and opens the store.
pub async fn open(dir: &Path) -> Store {
    open_with(options(dir)).await
}

pub async fn open_with(options: StoreOptions) -> Store {
    recover_journals(&options.data_dir, ShardId(0), 1).await.unwrap();
    Store::open(options).await.unwrap().0
}

/// A batch of `count` records that begins at `base`; its bytes depend on `seed` alone.
pub fn batch(base: Offset, count: u32, size: usize, seed: u64) -> Bytes {
    batch_at(base, count, size, seed, 1000 + base.0)
}

pub fn batch_at(base: Offset, count: u32, size: usize, seed: u64, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for n in 0..count {
        let mut value = Vec::with_capacity(size);
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n.into());
        while value.len() < size {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value.extend_from_slice(&x.to_le_bytes());
        }
        value.truncate(size);
        builder.push(timestamp + i64::from(n), None, Some(&value));
    }
    builder.build_at(base, TERM).unwrap()
}

/// Appends to a log, keeping count of indexes.
pub struct Writer {
    pub log: Log,
}

impl Writer {
    pub fn entry(&self, bytes: Bytes) -> LogEntry {
        LogEntry { id: LogId::new(TERM, self.log.next_index()), kind: EntryKind::Data, bytes }
    }

    /// Appends a batch at the end, without waiting.
    pub fn append(&self, count: u32, size: usize, seed: u64) -> Bytes {
        let bytes = batch(self.log.bounds().log_end, count, size, seed);
        self.log.append([self.entry(bytes.clone())], |r| r.unwrap()).unwrap();
        bytes
    }

    /// Appends a batch; gives it when it is durable and applied.
    pub async fn append_durably(&self, count: u32, size: usize, seed: u64) -> Bytes {
        let bytes = batch(self.log.bounds().log_end, count, size, seed);
        self.push(self.entry(bytes.clone())).await.unwrap();
        bytes
    }

    pub async fn push(&self, entry: LogEntry) -> Result<(), StorageError> {
        let index = entry.id.index;
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        self.log.append([entry], move |r| drop(sender.send(r)))?;
        receiver.await.unwrap()?;
        self.log.set_applied(index);
        Ok(())
    }

    /// Applies everything.
    pub fn apply(&self) {
        self.log.set_applied(RaftIndex(u64::MAX));
    }
}

pub async fn flushed(log: &Log) {
    let (sender, receiver) = core_pinning::sync::oneshot::channel();
    log.after_flush(move |r| drop(sender.send(r)));
    receiver.await.unwrap().unwrap();
}

/// Waits for a condition that must come to hold.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = time::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Appends until the log refuses; gives what was appended, and why it ended.
pub async fn append_until_refused(store: &Store, w: &Writer, expected: &mut Vec<Bytes>) -> StorageError {
    for n in 0..100_000 {
        if store.dirty().is_over() {
            core_pinning::yield_now().await;
        }
        let next = batch(w.log.bounds().log_end, 1, 5000, n);
        match w.log.append([w.entry(next.clone())], |_| {}) {
            Ok(()) => expected.push(next),
            Err(error) => return error,
        }
        if n % 8 == 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
    }
    panic!("never refused");
}

/// Everything from `from` to the log end, batch by batch, read in pieces of `max_bytes`.
pub async fn read_all(log: &Log, from: Offset, max_bytes: usize) -> Vec<Bytes> {
    let (mut at, mut batches) = (from, Vec::new());
    loop {
        let limit = ReadLimit { max_bytes, at_least_one: true, upto: Offset::MAX };
        let read = log.read(at, limit).await.unwrap();
        if read.slices.is_empty() {
            assert_eq!(at, log.bounds().log_end, "nothing to read before the end");
            return batches;
        }
        assert!(read.next_offset > at && read.first_offset <= at);
        assert_eq!(read.bytes, read.slices.iter().map(Bytes::len).sum::<usize>());
        for slice in read.slices {
            let mut rest = slice;
            while !rest.is_empty() {
                let header = BatchHeader::parse(&rest).unwrap();
                let batch = rest.split_to(header.size());
                header.verify_crc(&batch).unwrap();
                assert!(!header.is_internal());
                batches.push(batch);
            }
        }
        at = read.next_offset;
    }
}

pub fn assert_same(found: &[Bytes], expected: &[Bytes]) {
    assert_eq!(found.len(), expected.len(), "number of batches");
    for (n, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(f == e, "batch {n} differs");
    }
}

/// Copies a directory tree.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), &target) {
                // Renamed or removed in this moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => drop(other.unwrap()),
            }
        }
    }
}

/// Files below `dir` with their contents, without the journal and what is free to differ.
pub fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.join("data")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                files.push((entry.path(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    files.sort();
    files
}

pub fn segment_files(store: &Store, spec: &PartitionSpec) -> Vec<PathBuf> {
    let dir = store.partition_dir(&spec.topic, spec.key);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "log"));
    files.sort();
    files
}

pub type Shared<T> = Rc<std::cell::RefCell<T>>;

/// Of transactions that began before the log start nothing may be left, or only a part.
pub fn same_aborted(found: &[AbortedTransaction], expected: &[AbortedTransaction], log_start: Offset) -> bool {
    let mut rest = found.iter().peekable();
    let there = expected.iter().all(|e| {
        let Some(f) = rest.next_if(|f| (f.producer, f.last_offset) == (e.producer, e.last_offset)) else {
            return e.first_offset < log_start;
        };
        let first = f.first_offset == e.first_offset || e.first_offset < log_start;
        first && (f.last_stable_offset == e.last_stable_offset || e.last_stable_offset < log_start)
    });
    there && rest.next().is_none()
}
