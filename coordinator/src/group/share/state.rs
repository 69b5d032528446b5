//! What is stored of a share group.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_protocol::{Str, Uuid};

use super::Partitions;
use super::record::ShareRecord;

/// Epoch of a member of which nothing but its name is left.
pub(super) const LEFT: i32 = -1;

/// A member. A new one has epoch 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShareMember {
    pub(super) rack_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) topics: BTreeSet<Str>,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) assigned: Partitions,
}

impl Default for ShareMember {
    fn default() -> ShareMember {
        ShareMember {
            rack_id: None,
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
            topics: BTreeSet::new(),
            epoch: 0,
            previous_epoch: -1,
            assigned: Partitions::new(),
        }
    }
}

/// Partitions of a topic whose state is, or is being, initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Initialization {
    pub(super) topic: Str,
    pub(super) partitions: BTreeSet<i32>,
    /// When this was heard of, on the wall clock.
    pub(super) since_ms: i64,
}

/// Where each topic stands with the share coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Initializations {
    /// There has been a record of it.
    pub(super) recorded: bool,
    pub(super) under_way: BTreeMap<Uuid, Initialization>,
    pub(super) done: BTreeMap<Uuid, Initialization>,
    /// With the names that they have or had.
    pub(super) deleting: BTreeMap<Uuid, Str>,
}

/// Everything that records say of a group. Parts are shared between versions, so that keeping the one before is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShareState {
    pub(super) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(super) members: BTreeMap<Str, Rc<ShareMember>>,
    /// How many members subscribe to each topic.
    pub(super) subscribed: BTreeMap<Str, usize>,
    pub(super) target: BTreeMap<Str, Rc<Partitions>>,
    pub(super) assignment_epoch: i32,
    /// When the target was made, on the wall clock; 0: not known.
    pub(super) assigned_at_ms: i64,
    pub(super) initializations: Rc<Initializations>,
}

impl Default for ShareState {
    fn default() -> ShareState {
        ShareState {
            epoch: 1,
            metadata_hash: 0,
            members: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            target: BTreeMap::new(),
            assignment_epoch: 1,
            assigned_at_ms: 0,
            initializations: Rc::default(),
        }
    }
}

impl ShareState {
    /// Takes over one record of the group, but for the one that ends it.
    pub(super) fn apply(&mut self, now_ms: i64, record: &ShareRecord) {
        match record {
            ShareRecord::Member { id, value: Some(value) } => {
                let mut member = self.member(id);
                member.rack_id = value.rack_id.clone();
                member.client_id = value.client_id.clone();
                member.client_host = value.client_host.clone();
                member.topics = value.topics.clone();
                self.set_member(id, Some(member));
            }
            ShareRecord::Member { id, value: None } => self.set_member(id, None),
            ShareRecord::Current { id, value: Some(value) } => {
                let mut member = self.member(id);
                (member.epoch, member.previous_epoch) = (value.epoch, value.previous_epoch);
                member.assigned = value.partitions.clone();
                self.set_member(id, Some(member));
            }
            ShareRecord::Current { id, value: None } => {
                if self.members.contains_key(id) {
                    let left = (LEFT, LEFT, Partitions::new());
                    let mut member = self.member(id);
                    (member.epoch, member.previous_epoch, member.assigned) = left;
                    self.set_member(id, Some(member));
                }
            }
            ShareRecord::Epoch(value) => (self.epoch, self.metadata_hash) = value.unwrap_or((self.epoch, 0)),
            ShareRecord::TargetEpoch(value) => {
                (self.assignment_epoch, self.assigned_at_ms) = value.unwrap_or((LEFT, 0));
            }
            ShareRecord::Target { id, value: Some(partitions) } => {
                self.target.insert(id.clone(), Rc::new(partitions.clone()));
            }
            ShareRecord::Target { id, value: None } => {
                self.target.remove(id);
            }
            ShareRecord::Initializations(value) => {
                let mut value = value.clone().unwrap_or_default();
                value.recorded = true;
                for topic in value.under_way.values_mut().chain(value.done.values_mut()) {
                    topic.since_ms = now_ms;
                }
                self.initializations = Rc::new(value);
            }
        }
    }

    fn member(&self, id: &str) -> ShareMember {
        self.members.get(id).map(|member| (**member).clone()).unwrap_or_default()
    }

    fn set_member(&mut self, id: &Str, member: Option<ShareMember>) {
        let before = match member {
            Some(member) => {
                for topic in &member.topics {
                    *self.subscribed.entry(topic.clone()).or_default() += 1;
                }
                self.members.insert(id.clone(), Rc::new(member))
            }
            None => self.members.remove(id),
        };
        for topic in before.iter().flat_map(|member| &member.topics) {
            if let Some(count) = self.subscribed.get_mut(topic) {
                *count -= 1;
                if *count == 0 {
                    self.subscribed.remove(topic);
                }
            }
        }
    }

    /// Partitions whose state is initialised.
    pub(super) fn initialized(&self) -> Partitions {
        self.initializations.done.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect()
    }
}
