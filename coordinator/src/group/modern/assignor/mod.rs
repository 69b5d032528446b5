//! Who gets which partitions (KIP-848). Judge by Apache Kafka's `UniformAssignor` and `RangeAssignor`.

mod range;
mod uniform_mixed;
mod uniform_same;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_protocol::{Str, Uuid};

use super::partitions::Partitions;

/// An assignor of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assignor {
    /// Balanced over all partitions, and as little moves as can be.
    Uniform,
    /// Each topic in ranges, so that topics with the same partition counts are read together.
    Range,
}

impl Assignor {
    pub fn named(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The assignment of every member; who is left out gets nothing.
    pub(crate) fn assign(self, group: &GroupSpec<'_>) -> BTreeMap<Str, Partitions> {
        match self {
            _ if group.members.is_empty() => BTreeMap::new(),
            Assignor::Range => range::assign(group),
            Assignor::Uniform if group.same_topics => uniform_same::assign(group),
            Assignor::Uniform => uniform_mixed::assign(group),
        }
    }
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub(crate) struct MemberSpec<'a> {
    pub(crate) id: Str,
    pub(crate) instance_id: Option<&'a Str>,
    /// Topics that exist.
    pub(crate) topics: Rc<BTreeSet<Uuid>>,
    /// What it was assigned before.
    pub(crate) assigned: &'a Partitions,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupSpec<'a> {
    /// In the order of their ids.
    pub(crate) members: Vec<MemberSpec<'a>>,
    /// All members read the same topics.
    pub(crate) same_topics: bool,
    /// Of every topic that a member reads.
    pub(crate) partition_counts: BTreeMap<Uuid, i32>,
}

impl GroupSpec<'_> {
    fn partitions_of(&self, topic: Uuid) -> i32 {
        self.partition_counts.get(&topic).copied().unwrap_or(0)
    }
}
