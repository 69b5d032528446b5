//! Committed offsets in memory.

use std::collections::BTreeMap;

use corelane_protocol::records::group::OffsetCommitValue;
use corelane_protocol::{Str, Uuid};
use hashbrown::HashMap;

use crate::Now;

/// What a group committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    /// -1: not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
    /// Wall clock.
    pub(crate) commit_timestamp_ms: i64,
    /// When it expires, if the commit said so.
    pub(crate) expire_timestamp_ms: Option<i64>,
    /// Zero: not known.
    pub(crate) topic_id: Uuid,
    /// Its place among all commits of the machine, in the order of the log.
    pub(crate) order: u64,
}

impl CommittedOffset {
    pub(crate) fn from_value(value: &OffsetCommitValue) -> CommittedOffset {
        CommittedOffset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: if value.metadata.is_empty() { Str::EMPTY } else { value.metadata.detach() },
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: Some(value.expire_timestamp).filter(|at| *at != -1),
            topic_id: value.topic_id,
            order: 0,
        }
    }
}

impl CommittedOffset {
    /// Whether its time is over, which counts from `since` if the commit did not say otherwise.
    pub(crate) fn is_expired(&self, now: Now, since: i64, retention_ms: i64) -> bool {
        match self.expire_timestamp_ms {
            Some(at) => now.wall_ms >= at,
            None => now.wall_ms.saturating_sub(since) >= retention_ms,
        }
    }
}

pub(crate) type PartitionOffsets = BTreeMap<i32, CommittedOffset>;
pub(crate) type TopicOffsets = BTreeMap<Str, PartitionOffsets>;

/// The offsets of all groups of one coordinator. No empty map is kept.
#[derive(Debug, Default)]
pub(crate) struct OffsetStore {
    groups: HashMap<Str, TopicOffsets>,
    count: usize,
}

impl OffsetStore {
    pub(crate) fn of_group(&self, group: &str) -> Option<&TopicOffsets> {
        self.groups.get(group)
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Str, &TopicOffsets)> {
        self.groups.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Puts, or with `None` removes, an offset; gives what was there. Names are copied out of their frames.
    pub(crate) fn set(
        &mut self,
        group: &Str,
        topic: &Str,
        partition: i32,
        offset: Option<CommittedOffset>,
    ) -> Option<CommittedOffset> {
        match offset {
            Some(offset) => self.put(group, topic, partition, offset),
            None => self.remove(group, topic, partition),
        }
    }

    fn put(&mut self, group: &Str, topic: &Str, partition: i32, offset: CommittedOffset) -> Option<CommittedOffset> {
        let topics = match self.groups.get_mut(group) {
            Some(topics) => topics,
            None => self.groups.entry(group.detach()).or_default(),
        };
        let previous = match topics.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, offset),
            None => topics.entry(topic.detach()).or_default().insert(partition, offset),
        };
        self.count += usize::from(previous.is_none());
        previous
    }

    fn remove(&mut self, group: &str, topic: &str, partition: i32) -> Option<CommittedOffset> {
        let topics = self.groups.get_mut(group)?;
        let partitions = topics.get_mut(topic)?;
        let removed = partitions.remove(&partition)?;
        self.count -= 1;
        if partitions.is_empty() {
            topics.remove(topic);
            if topics.is_empty() {
                self.groups.remove(group);
            }
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_leaves_no_empty_map() {
        let offset = CommittedOffset::from_value(&OffsetCommitValue { offset: 5, ..Default::default() });
        let (group, topic) = (Str::from("g"), Str::from("t"));
        let mut store = OffsetStore::default();
        assert_eq!(store.set(&group, &topic, 0, Some(offset.clone())), None);
        assert_eq!(store.set(&group, &topic, 0, Some(offset.clone())), Some(offset.clone()));
        assert_eq!(store.set(&group, &topic, 1, Some(offset.clone())), None);
        assert_eq!(store.len(), 2);
        assert_eq!(store.set(&group, &topic, 2, None), None);
        assert_eq!(store.set(&group, &topic, 0, None), Some(offset.clone()));
        assert_eq!(store.set(&group, &topic, 1, None), Some(offset));
        assert_eq!(store.len(), 0);
        assert!(store.of_group("g").is_none());
    }
}
