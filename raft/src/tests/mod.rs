//! Groups over the real log, journal and disk of one shard.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::{ShardId, run_local, task, time};
use corelane_storage::model::{LogId, NodeId, Offset, PartitionKey, RaftIndex, Term, TopicId};
use corelane_storage::record::{BatchBuilder, Batches, Codec, RecordIter};
use corelane_storage::{Log, LogConfig, PartitionSpec, ReadLimit, StorageError, Store, StoreOptions, recover_journals};
use futures::future::join_all;
use tempfile::TempDir;

use crate::*;

mod faults;
mod hibernate;
mod propose;
mod purge;
mod restart;
mod stress;

pub(crate) const NODE: NodeId = NodeId(7);

fn options() -> GroupsOptions {
    GroupsOptions::new(NODE)
}

/// A batch of one record.
pub(crate) fn batch(term: Term, base: Offset) -> Bytes {
    batch_of(term, base, 10)
}

/// A batch of one record, keyed by its offset, with a value of so many bytes.
pub(crate) fn batch_of(term: Term, base: Offset, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(time::wall_ms(), Some(&base.0.to_be_bytes()), Some(&vec![b'v'; bytes]));
    builder.build_at(base, term).unwrap()
}

/// A shard's groups on a store of their own.
pub(crate) struct Shard {
    pub groups: Groups,
    pub store: Store,
    /// `None` if somebody else looks after the directory.
    _dir: Option<TempDir>,
}

impl Shard {
    pub async fn start() -> Shard {
        Shard::start_with(options()).await
    }

    pub async fn start_with(options: GroupsOptions) -> Shard {
        let dir = TempDir::new().unwrap();
        let shard = Shard::start_at(dir.path(), options).await;
        Shard { _dir: Some(dir), ..shard }
    }

    /// As a process starts: what the one before left in its journal is put into place first.
    pub async fn start_at(dir: &Path, options: GroupsOptions) -> Shard {
        recover_journals(dir, ShardId(0), 1).await.unwrap();
        let options_of_store =
            StoreOptions { journal_file_bytes: 4 << 20, ..StoreOptions::new(dir, ShardId(0), 64 << 20, 16 << 20) };
        let (store, _) = Store::open(options_of_store).await.unwrap();
        Shard { groups: Groups::new(options), store, _dir: None }
    }

    fn spec(partition: u32, config: LogConfig) -> PartitionSpec {
        let key = PartitionKey { topic: TopicId([1; 16]), partition };
        PartitionSpec { topic: "topic".into(), key, config }
    }

    /// The log of a partition, made if it is new.
    pub async fn log(&self, partition: u32) -> Log {
        self.log_with(partition, LogConfig::default()).await
    }

    pub async fn log_with(&self, partition: u32, config: LogConfig) -> Log {
        let spec = Shard::spec(partition, config);
        if self.store.exists(&spec) {
            self.store.load(spec).await.unwrap()
        } else {
            self.store.create(spec, first_state(NODE)).await.unwrap()
        }
    }

    pub async fn open(&self, partition: u32) -> Group {
        self.groups.open(self.log(partition).await).unwrap()
    }

    /// Stops the groups, and leaves the store as a crash would.
    pub async fn stop(&self) {
        self.groups.shutdown().await;
        assert_eq!((self.groups.stats().tasks, self.groups.stats().hot), (0, 0));
    }

    /// Stops in order.
    pub async fn close(&self) {
        self.stop().await;
        self.store.close().await.unwrap();
    }
}

/// Proposes batches of one record each, from the log's end on.
struct Producer(Group);

impl Producer {
    fn new(group: &Group) -> Producer {
        Producer(group.clone())
    }

    fn propose(&self) -> Result<Proposal, ProposeError> {
        let base = self.0.next_offset();
        self.0.propose(batch(self.0.leadership().term, base), base, base)
    }

    async fn write(&self) -> Result<LogId, ProposeError> {
        self.propose()?.applied().await
    }
}

/// Every record is there, once and in its place.
async fn check_records(log: &Log) {
    let upto = log.bounds().high_watermark;
    let mut next = log.bounds().log_start;
    while next < upto {
        let read = log.read(next, ReadLimit { max_bytes: 1 << 20, at_least_one: true, upto }).await.unwrap();
        for slice in read.slices {
            for batch in Batches::new(slice) {
                let (header, bytes) = batch.unwrap();
                header.verify_crc(&bytes).unwrap();
                for record in RecordIter::new(&bytes, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    assert_eq!(record.offset, next);
                    assert_eq!(record.key.as_deref(), Some(&next.0.to_be_bytes()[..]));
                    next = next.next();
                }
            }
        }
        assert_eq!(read.next_offset, next);
    }
}
