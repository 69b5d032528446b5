//! Uniform assignment of members with different subscriptions: everyone keeps what it still reads, what is free goes to
//! those with the least, then partitions move from those with the most to those with the least until that helps no more.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::{Str, Uuid};

use super::GroupSpec;
use crate::group::modern::partitions::Partitions;

/// Rounds over all topics: with subscriptions that overlap in part balance is only neared, each round about halving what is
/// left of it.
const ROUNDS: usize = 16;

/// A member's place in the group.
type Index = usize;

struct Builder {
    /// Who reads a topic, ascending.
    readers: BTreeMap<Uuid, Vec<Index>>,
    /// Who has each partition of a topic.
    owners: BTreeMap<Uuid, Vec<Option<Index>>>,
    /// How many partitions each member has.
    loads: Vec<usize>,
}

pub(super) fn assign(group: &GroupSpec<'_>) -> BTreeMap<Str, Partitions> {
    let mut builder =
        Builder { readers: BTreeMap::new(), owners: BTreeMap::new(), loads: vec![0; group.members.len()] };
    for (index, member) in group.members.iter().enumerate() {
        for topic in member.topics.iter() {
            builder.readers.entry(*topic).or_default().push(index);
            let partitions = group.partitions_of(*topic).max(0) as usize;
            builder.owners.entry(*topic).or_insert_with(|| vec![None; partitions]);
        }
    }
    for (index, member) in group.members.iter().enumerate() {
        for (topic, partitions) in member.assigned.iter().filter(|(topic, _)| member.topics.contains(*topic)) {
            partitions.iter().for_each(|partition| builder.give(*topic, *partition as usize, index));
        }
    }
    builder.assign_free();
    builder.balance();
    builder.result(group)
}

impl Builder {
    fn load(&self, member: Index) -> usize {
        self.loads.get(member).copied().unwrap_or(0)
    }

    fn give(&mut self, topic: Uuid, partition: usize, to: Index) {
        let Some(owner) = self.owners.get_mut(&topic).and_then(|owners| owners.get_mut(partition)) else { return };
        let before = owner.replace(to);
        if let Some(load) = before.and_then(|before| self.loads.get_mut(before)) {
            *load -= 1;
        }
        if let Some(load) = self.loads.get_mut(to) {
            *load += 1;
        }
    }

    /// Topics with many partitions for each reader first, then those with few readers.
    fn sorted(&self, topics: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
        let size = |topic: &Uuid| {
            (self.owners.get(topic).map_or(0, Vec::len), self.readers.get(topic).map_or(1, Vec::len).max(1))
        };
        let mut topics: Vec<Uuid> = topics.collect();
        topics.sort_by(|a, b| {
            let ((a_partitions, a_readers), (b_partitions, b_readers)) = (size(a), size(b));
            let more = (b_partitions as f64 / b_readers as f64).total_cmp(&(a_partitions as f64 / a_readers as f64));
            more.then(a_readers.cmp(&b_readers)).then(a.cmp(b))
        });
        topics
    }

    /// The readers of a topic, those with the fewest partitions first.
    fn by_load(&self, topic: Uuid) -> BTreeSet<(usize, Index)> {
        self.readers.get(&topic).into_iter().flatten().map(|reader| (self.load(*reader), *reader)).collect()
    }

    fn assign_free(&mut self) {
        for topic in self.sorted(self.owners.keys().copied()) {
            let mut readers = self.by_load(topic);
            for partition in 0..self.owners.get(&topic).map_or(0, Vec::len) {
                let free = self.owners.get(&topic).and_then(|o| o.get(partition)).is_some_and(Option::is_none);
                if free && let Some((load, reader)) = readers.pop_first() {
                    self.give(topic, partition, reader);
                    readers.insert((load + 1, reader));
                }
            }
        }
    }

    fn balance(&mut self) {
        let shared = self.readers.iter().filter(|(_, readers)| readers.len() >= 2).map(|(topic, _)| *topic);
        let topics = self.sorted(shared);
        for _ in 0..ROUNDS {
            let mut moved = 0;
            for topic in &topics {
                moved += self.balance_topic(*topic);
            }
            if moved == 0 {
                return;
            }
        }
    }

    /// Moves partitions of one topic from its readers with the most to those with the least; gives how many.
    fn balance_topic(&mut self, topic: Uuid) -> usize {
        let mut readers = self.by_load(topic);
        let mut held: BTreeMap<Index, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners.get(&topic).into_iter().flatten().enumerate() {
            held.entry(owner.unwrap_or(usize::MAX)).or_default().push(partition);
        }
        let mut moved = 0;
        // Those who have nothing of this topic to give can still take.
        let mut givers = readers.clone();
        while let (Some(&(least, to)), Some((most, from))) = (readers.first(), givers.pop_last()) {
            if most <= least + 1 {
                break;
            }
            let Some(partition) = held.get_mut(&from).and_then(Vec::pop) else { continue };
            self.give(topic, partition, to);
            moved += 1;
            readers.remove(&(most, from));
            readers.insert((most - 1, from));
            readers.remove(&(least, to));
            readers.insert((least + 1, to));
            if givers.remove(&(least, to)) {
                givers.insert((least + 1, to));
            }
            givers.insert((most - 1, from));
        }
        moved
    }

    fn result(self, group: &GroupSpec<'_>) -> BTreeMap<Str, Partitions> {
        let mut assignments: Vec<Partitions> = vec![Partitions::new(); group.members.len()];
        for (topic, owners) in self.owners {
            for (partition, owner) in owners.into_iter().enumerate() {
                if let Some(assignment) = owner.and_then(|owner| assignments.get_mut(owner)) {
                    assignment.entry(topic).or_default().insert(partition as i32);
                }
            }
        }
        group.members.iter().map(|member| member.id.clone()).zip(assignments).collect()
    }
}
