//! The partitions that a shard serves.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_protocol::ErrorCode;
use corelane_storage::model::{PartitionKey, TopicId};
use hashbrown::{HashMap, HashSet};

use crate::partition::Partition;

#[derive(Default)]
pub struct PartitionTable {
    open: RefCell<HashMap<PartitionKey, Rc<Partition>>>,
    /// Those whose log did not open: offline until the next start, or until a disk that was full has room again.
    failed: RefCell<HashSet<PartitionKey>>,
}

impl PartitionTable {
    pub fn get(&self, key: PartitionKey) -> Option<Rc<Partition>> {
        self.open.borrow().get(&key).cloned()
    }

    /// As [`get`](Self::get), with the error that clients get instead.
    pub fn find(&self, key: PartitionKey) -> Result<Rc<Partition>, ErrorCode> {
        let offline = || match self.failed.borrow().contains(&key) {
            true => ErrorCode::KafkaStorageError,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        self.get(key).ok_or_else(offline)
    }

    pub fn failed(&self) -> Vec<PartitionKey> {
        self.failed.borrow().iter().copied().collect()
    }

    pub fn set_failed(&self, key: PartitionKey) {
        self.failed.borrow_mut().insert(key);
    }

    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    pub fn insert(&self, partition: Rc<Partition>) {
        self.failed.borrow_mut().remove(&partition.key);
        self.open.borrow_mut().insert(partition.key, partition);
    }

    /// Those of a topic that did not open; they are forgotten.
    pub fn take_failed(&self, topic: TopicId) -> Vec<PartitionKey> {
        self.failed.borrow_mut().extract_if(|key| key.topic == topic).collect()
    }

    pub fn remove_topic(&self, topic: TopicId) -> Vec<Rc<Partition>> {
        self.open.borrow_mut().extract_if(|key, _| key.topic == topic).map(|(_, p)| p).collect()
    }

    /// All of them, in no order; a copy, so that the table may change meanwhile.
    pub fn all(&self) -> Vec<Rc<Partition>> {
        self.open.borrow().values().cloned().collect()
    }
}
