//! Offsets that wait for the end of the transaction that they were committed in.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Str;
use hashbrown::HashMap;

use super::offset_store::{CommittedOffset, TopicOffsets};

/// Offsets of open transactions, by producer id. No empty map is kept.
#[derive(Debug, Default)]
pub(crate) struct PendingOffsets {
    producers: HashMap<i64, BTreeMap<Str, TopicOffsets>>,
    /// The producers that have some of a group.
    groups: HashMap<Str, BTreeSet<i64>>,
}

impl PendingOffsets {
    /// Puts, or with `None` removes, an offset; gives what was there.
    pub(crate) fn set(
        &mut self,
        producer_id: i64,
        group: &Str,
        topic: &Str,
        partition: i32,
        offset: Option<CommittedOffset>,
    ) -> Option<CommittedOffset> {
        match offset {
            Some(offset) => {
                self.groups.entry(group.detach()).or_default().insert(producer_id);
                let groups = self.producers.entry(producer_id).or_default();
                let topics = groups.entry(group.detach()).or_default();
                topics.entry(topic.detach()).or_default().insert(partition, offset)
            }
            None => {
                let topics = self.producers.get_mut(&producer_id)?.get_mut(group)?;
                let partitions = topics.get_mut(topic)?;
                let removed = partitions.remove(&partition);
                if partitions.is_empty() {
                    topics.remove(topic);
                }
                if topics.is_empty() {
                    self.forget(producer_id, group);
                }
                removed
            }
        }
    }

    fn forget(&mut self, producer_id: i64, group: &Str) {
        if let Some(groups) = self.producers.get_mut(&producer_id) {
            groups.remove(group);
            if groups.is_empty() {
                self.producers.remove(&producer_id);
            }
        }
        self.forget_producer(producer_id, group);
    }

    fn forget_producer(&mut self, producer_id: i64, group: &Str) {
        if let Some(producers) = self.groups.get_mut(group) {
            producers.remove(&producer_id);
            if producers.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Takes out what a producer has pending, as its transaction ends.
    pub(crate) fn take(&mut self, producer_id: i64) -> BTreeMap<Str, TopicOffsets> {
        let taken = self.producers.remove(&producer_id).unwrap_or_default();
        for group in taken.keys() {
            self.forget_producer(producer_id, group);
        }
        taken
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    pub(crate) fn has(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.of_group(group).any(|(_, topics)| topics.get(topic).is_some_and(|t| t.contains_key(&partition)))
    }

    /// What is pending for a group, by producer.
    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (i64, &'a TopicOffsets)> {
        let producers = self.groups.get(group).into_iter().flatten();
        producers.filter_map(move |id| Some((*id, self.producers.get(id)?.get(group)?)))
    }

    /// The producers that have this partition's offset pending.
    pub(crate) fn producers_of(&self, group: &str, topic: &str, partition: i32) -> Vec<i64> {
        let all = self.of_group(group);
        let all = all.filter(|(_, topics)| topics.get(topic).is_some_and(|t| t.contains_key(&partition)));
        all.map(|(id, _)| id).collect()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Str> {
        self.groups.keys()
    }
}
