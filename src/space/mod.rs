//! Space on the disk: who may still write, and what goes when it runs short (`rule`).
//!
//! One shard, the keeper's, looks at the disk; every shard is told how it stands and counts what it takes in meanwhile.

mod forward;
mod keeper;
pub mod rule;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use core_pinning::metrics::{Counter, counter};
use core_pinning::sync::Signal;
use core_pinning::task::{Queue, spawn};
use corelane_protocol::ErrorCode;
use corelane_storage::StorageError;

use crate::partition::ProduceFailure;
use crate::retention;
use crate::router::ShardCall;
use crate::shard::Shard;
use rule::Level;

pub use keeper::Keeper;

/// The shard that looks at the disk.
pub const KEEPER: ShardId = ShardId(0);

/// What one shard knows of the disk.
pub struct Space {
    level: Cell<Level>,
    /// What clients are told while it is full.
    reason: RefCell<String>,
    /// Bytes that this shard takes before the disk is looked at again.
    allotment: Cell<u64>,
    taken: Cell<u64>,
    /// Has the keeper look. Used on its shard.
    look: Signal,
    refused: Counter,
}

impl Default for Space {
    fn default() -> Space {
        Space {
            level: Cell::default(),
            reason: RefCell::default(),
            allotment: Cell::new(u64::MAX),
            taken: Cell::new(0),
            look: Signal::default(),
            refused: counter("corelane_disk_full_refusals_total", "Batches refused because the disk is full", vec![]),
        }
    }
}

impl Space {
    /// Why nothing new is taken, if the disk is full. Clients of Kafka ask again after this error, with fresh metadata; the
    /// Java client and librdkafka take it as a batch that was not written.
    pub fn refusal(&self) -> Option<(ErrorCode, String)> {
        (self.level.get() == Level::Full).then(|| (ErrorCode::KafkaStorageError, self.reason.borrow().clone()))
    }

    /// Lets a client's batch of so many bytes in, or not.
    pub fn admit(&self, shard: &Rc<Shard>, bytes: usize) -> Result<(), ProduceFailure> {
        if let Some((code, message)) = self.refusal() {
            self.refused.inc();
            return Err(ProduceFailure { message: Some(message), ..code.into() });
        }
        let before = self.taken.get();
        let taken = before.saturating_add(bytes as u64);
        self.taken.set(taken);
        if before <= self.allotment.get() && taken > self.allotment.get() {
            // Nobody waits for the answer.
            drop(shard.router.call(shard, KEEPER, LookCall));
        }
        Ok(())
    }
}

struct LookCall;

impl ShardCall for LookCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.space.look.notify();
        std::future::ready(())
    }
}

/// What a shard has to say when the disk is looked at.
struct Report {
    unwritten: u64,
    refused: bool,
}

#[derive(Clone)]
struct ReportCall;

impl ShardCall for ReportCall {
    type Reply = Report;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Report> + 'static {
        std::future::ready(Report {
            unwritten: shard.store.stats().dirty_bytes as u64,
            refused: matches!(shard.store.refusal(), Some(StorageError::DiskFull { .. })),
        })
    }
}

/// Tells a shard how the disk stands.
#[derive(Clone)]
struct SetCall {
    level: Level,
    reason: String,
    allotment: u64,
}

impl ShardCall for SetCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let space = &shard.space;
        let before = space.level.replace(self.level);
        space.reason.replace(self.reason);
        space.allotment.set(self.allotment);
        space.taken.set(0);
        shard.store.set_thrift(self.level > Level::Enough);
        if before == Level::Enough && self.level > Level::Enough {
            let shard = shard.clone();
            spawn(Queue::Background, "retention", async move { retention::pass(&shard).await }).detach();
        }
        if before == Level::Full && self.level < Level::Full {
            let shard = shard.clone();
            spawn(Queue::Background, "offline partitions", async move { shard.reopen_failed().await }).detach();
        }
        std::future::ready(())
    }
}
