//! One partition on the shard that owns it: its log, its Raft group, and who waits for it.

mod config;
mod fetch;
mod intake;
mod offsets;
mod produce;
mod transactions;
mod waiters;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use corelane_config::TopicConfig;
use corelane_protocol::ErrorCode;
use corelane_raft::{Group, Proposal};
use corelane_storage::model::{Offset, PartitionKey, Term};
use corelane_storage::record::{BatchHeader, EndMarker};
use corelane_storage::{Bounds, Log, StorageError};

pub use config::log_config;
pub use fetch::{EpochCheck, FetchRead, FetchedRecords};
pub use intake::Taken;
pub use offsets::OffsetSpec;
pub use produce::{Appended, ProduceContext, ProduceFailure};
pub use transactions::{Found, Marker, Membership, Question};
pub use waiters::FetchWaiter;

/// Owned by one shard; everything that waits holds an `Rc`, so that a deleted partition ends when its last user does.
///
/// Offsets: log start <= high watermark <= log end <= next offset. Those between log end and next offset are proposed
/// and not yet in the log; those above the high watermark are not yet applied and no consumer sees them.
pub struct Partition {
    pub key: PartitionKey,
    pub topic: Arc<str>,
    pub index: u32,
    log: Log,
    group: Group,
    config: RefCell<Rc<TopicConfig>>,
    /// The offset that the next accepted batch gets.
    next_offset: Cell<Offset>,
    /// Batches that are proposed and not yet applied, in their order.
    proposed: RefCell<VecDeque<Proposed>>,
    intake: intake::Intake,
    gates: transactions::Gates,
    waiters: waiters::Waiters,
    /// Set when the topic is deleted: what waits or comes later is told so.
    deleted: Cell<bool>,
}

impl Partition {
    pub fn new(key: PartitionKey, topic: Arc<str>, log: Log, group: Group, config: Rc<TopicConfig>) -> Rc<Partition> {
        let next_offset = Cell::new(log.bounds().log_end);
        let partition = Rc::new(Partition {
            key,
            topic,
            index: key.partition,
            log,
            group,
            config: RefCell::new(config),
            next_offset,
            proposed: RefCell::default(),
            intake: intake::Intake::default(),
            gates: transactions::Gates::default(),
            waiters: waiters::Waiters::default(),
            deleted: Cell::new(false),
        });
        let weak = Rc::downgrade(&partition);
        partition.group.on_applied(move |high_watermark| {
            if let Some(partition) = weak.upgrade() {
                let (bytes, stable) = (partition.applied_bytes(high_watermark), partition.log.last_stable_offset());
                partition.waiters.advanced(bytes, high_watermark, stable);
            }
        });
        partition
    }

    pub fn bounds(&self) -> Bounds {
        self.log.bounds()
    }

    /// Where the next batch that is accepted will lie.
    pub fn next_offset(&self) -> Offset {
        self.next_offset.get()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Bytes that became visible with `high_watermark`.
    fn applied_bytes(&self, high_watermark: Offset) -> usize {
        let mut proposed = self.proposed.borrow_mut();
        let mut bytes = 0;
        while let Some(batch) = proposed.pop_front_if(|p| p.last < high_watermark || p.proposal.is_failed()) {
            bytes += if batch.proposal.is_failed() { 0 } else { batch.size };
        }
        bytes
    }

    pub fn config(&self) -> Rc<TopicConfig> {
        self.config.borrow().clone()
    }

    pub fn set_config(&self, config: Rc<TopicConfig>) {
        self.log.set_config(log_config(&config, self.log.config().essential));
        self.config.replace(config);
    }

    pub fn leader_epoch(&self) -> Term {
        self.group.leadership().term
    }

    /// Kafka's check of the epoch that a client believes in (`Partition.checkCurrentLeaderEpoch`); negative: not given.
    pub fn check_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        if current_leader_epoch == -1 {
            return Ok(());
        }
        match i64::from(current_leader_epoch).cmp(&(self.leader_epoch().0 as i64)) {
            std::cmp::Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// The topic is going away: nobody may wait for it any longer.
    pub fn mark_deleted(&self) {
        self.deleted.set(true);
        self.waiters.wake_all();
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.get()
    }
}

/// A batch on its way into the log.
struct Proposed {
    /// Its producer and sequence.
    header: BatchHeader,
    /// What it says, if it ends a transaction.
    marker: Option<EndMarker>,
    base: Offset,
    last: Offset,
    size: usize,
    proposal: Proposal,
}

/// What clients are told of a failure of the disk.
pub fn storage_error(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::Deleted(_) | StorageError::NotFound(_) => ErrorCode::UnknownTopicOrPartition,
        _ => ErrorCode::KafkaStorageError,
    }
}
