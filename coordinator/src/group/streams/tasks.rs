//! Tasks: partitions of a subtopology, each worked on by one thread at a time.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Str;

/// Partitions by subtopology. No subtopology is without partitions, so that equal sets compare equal.
pub(crate) type Tasks = BTreeMap<Str, BTreeSet<i32>>;

/// As [`Tasks`], with the group epoch in which the member got each of them.
pub(crate) type EpochTasks = BTreeMap<Str, BTreeMap<i32, i32>>;

/// What a member is to work on, or says that it works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskSet {
    pub(crate) active: Tasks,
    /// Copies of state kept warm.
    pub(crate) standby: Tasks,
    /// Copies of state that are being built.
    pub(crate) warmup: Tasks,
}

/// What a member has, or is to give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AssignedTasks {
    pub(crate) active: EpochTasks,
    pub(crate) standby: Tasks,
    pub(crate) warmup: Tasks,
}

impl TaskSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Whether any of these tasks is, in the same role, among `other`.
    pub(crate) fn has_any_of(&self, other: &AssignedTasks) -> bool {
        let active = |(id, partition): (&Str, i32)| other.active.get(id).is_some_and(|p| p.contains_key(&partition));
        let common = |own: &Tasks, other: &Tasks| each(own).any(|(id, partition)| contains(other, id, partition));
        each(&self.active).any(active) || common(&self.standby, &other.standby) || common(&self.warmup, &other.warmup)
    }
}

impl AssignedTasks {
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// The tasks of both; of one that is in both, the epoch that `other` says.
    pub(crate) fn merged_with(mut self, other: AssignedTasks) -> AssignedTasks {
        for (id, partitions) in other.active {
            self.active.entry(id).or_default().extend(partitions);
        }
        for (own, other) in [(&mut self.standby, other.standby), (&mut self.warmup, other.warmup)] {
            for (id, partitions) in other {
                own.entry(id).or_default().extend(partitions);
            }
        }
        self
    }

    pub(crate) fn active_tasks(&self) -> Tasks {
        self.active.iter().map(|(id, partitions)| (id.clone(), partitions.keys().copied().collect())).collect()
    }
}

/// Every task one by one.
pub(crate) fn each(tasks: &Tasks) -> impl Iterator<Item = (&Str, i32)> {
    tasks.iter().flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, *partition)))
}

pub(crate) fn contains(tasks: &Tasks, id: &Str, partition: i32) -> bool {
    tasks.get(id).is_some_and(|partitions| partitions.contains(&partition))
}
