//! The partitions that a shard serves.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_storage::model::{PartitionKey, TopicId};
use hashbrown::HashMap;

use crate::partition::Partition;

#[derive(Default)]
pub struct PartitionTable(RefCell<HashMap<PartitionKey, Rc<Partition>>>);

impl PartitionTable {
    pub fn get(&self, key: PartitionKey) -> Option<Rc<Partition>> {
        self.0.borrow().get(&key).cloned()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn insert(&self, partition: Rc<Partition>) {
        self.0.borrow_mut().insert(partition.key, partition);
    }

    pub fn remove_topic(&self, topic: TopicId) -> Vec<Rc<Partition>> {
        self.0.borrow_mut().extract_if(|key, _| key.topic == topic).map(|(_, p)| p).collect()
    }

    /// All of them, in no order; a copy, so that the table may change meanwhile.
    pub fn all(&self) -> Vec<Rc<Partition>> {
        self.0.borrow().values().cloned().collect()
    }
}
