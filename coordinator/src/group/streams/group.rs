//! A streams group: what is stored of it, and what it only remembers.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::{EncodeError, Str};

use super::configured::ConfiguredTopology;
use super::member::{CurrentAssignment, Member, MemberMetadata, MemberState};
use super::records::{Change, GroupMetadata, TargetMetadata};
use super::tasks::TaskSet;
use super::topology::Topology;
use crate::CoordinatorRecord;
use crate::timer::Timer;

#[derive(Debug)]
pub(crate) struct StreamsGroup {
    pub(crate) id: Str,
    pub(crate) incarnation: u64,
    // Stored:
    pub(crate) metadata: GroupMetadata,
    pub(crate) members: BTreeMap<Str, Member>,
    pub(crate) target_metadata: TargetMetadata,
    pub(crate) targets: BTreeMap<Str, TaskSet>,
    pub(crate) topology: Option<Rc<Topology>>,
    // Remembered:
    /// The topology as it was fitted to the topics whose hash is `metadata.metadata_hash`.
    pub(crate) configured: Option<Rc<ConfiguredTopology>>,
    /// The member that asked all others to shut down.
    pub(crate) shutdown_by: Option<Str>,
    /// Counts the times that it changed where state can be asked for.
    pub(crate) endpoint_epoch: i32,
    /// While it runs nobody gets tasks: more members may come.
    pub(crate) initial_delay: Timer,
}

/// State of a streams group, as it is named in listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamsGroupState {
    Empty,
    /// The topology does not fit the topics there are.
    NotReady,
    Assigning,
    Reconciling,
    Stable,
}

impl StreamsGroupState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            StreamsGroupState::Empty => "Empty",
            StreamsGroupState::NotReady => "NotReady",
            StreamsGroupState::Assigning => "Assigning",
            StreamsGroupState::Reconciling => "Reconciling",
            StreamsGroupState::Stable => "Stable",
        }
    }
}

impl StreamsGroup {
    pub(crate) fn new(id: Str, incarnation: u64) -> StreamsGroup {
        StreamsGroup {
            id,
            incarnation,
            metadata: GroupMetadata::default(),
            members: BTreeMap::new(),
            target_metadata: TargetMetadata::INITIAL,
            targets: BTreeMap::new(),
            topology: None,
            configured: None,
            shutdown_by: None,
            endpoint_epoch: 0,
            initial_delay: Timer::default(),
        }
    }

    pub(crate) fn state(&self) -> StreamsGroupState {
        if self.members.is_empty() {
            return StreamsGroupState::Empty;
        }
        let validated = self.metadata.validated_topology_epoch;
        if self.topology.as_ref().is_none_or(|topology| topology.epoch != validated) {
            return StreamsGroupState::NotReady;
        }
        let assigned = self.target_metadata.epoch;
        if self.metadata.epoch > assigned {
            return StreamsGroupState::Assigning;
        }
        match self.members.values().all(|member| member.current.is_reconciled_to(assigned)) {
            true => StreamsGroupState::Stable,
            false => StreamsGroupState::Reconciling,
        }
    }

    /// Makes a change and gives the one that takes it back. A change to a member that is not there is none, but for those that
    /// make it.
    pub(crate) fn apply(&mut self, change: Change) -> Change {
        let back = match change {
            Change::Metadata(value) => {
                Change::Metadata(Some(std::mem::replace(&mut self.metadata, value.unwrap_or_default())))
            }
            Change::TargetMetadata(value) => {
                let value = value.unwrap_or(TargetMetadata::GONE);
                Change::TargetMetadata(Some(std::mem::replace(&mut self.target_metadata, value)))
            }
            Change::Topology(value) => {
                self.configured = None;
                Change::Topology(std::mem::replace(&mut self.topology, value))
            }
            Change::Target(id, value) => {
                let previous = match value {
                    Some(value) => self.targets.insert(id.clone(), value),
                    None => self.targets.remove(&id),
                };
                Change::Target(id, previous)
            }
            Change::Member(id, value) => {
                let previous = match value {
                    Some(value) => self.set_member(&id, value),
                    None => self.members.remove(&id).map(|member| member.metadata),
                };
                Change::Member(id, previous)
            }
            Change::Current(id, value) => {
                let previous = match value {
                    Some(value) => Some(self.set_current(&id, value)),
                    None => self
                        .members
                        .get_mut(&id)
                        .map(|member| std::mem::replace(&mut member.current, CurrentAssignment::gone())),
                };
                Change::Current(id, previous)
            }
        };
        if self.members.is_empty() {
            self.shutdown_by = None;
        }
        back
    }

    fn set_member(&mut self, id: &Str, metadata: MemberMetadata) -> Option<MemberMetadata> {
        match self.members.get_mut(id) {
            Some(member) => Some(std::mem::replace(&mut member.metadata, metadata)),
            None => {
                self.members.insert(id.clone(), Member { metadata, ..Member::default() });
                None
            }
        }
    }

    /// The assignment of a member may be read before the member.
    fn set_current(&mut self, id: &Str, current: CurrentAssignment) -> CurrentAssignment {
        std::mem::replace(&mut self.members.entry(id.clone()).or_default().current, current)
    }

    /// What a member removed takes with it, in the order of Kafka.
    pub(crate) fn removal_of(&self, member_id: &Str) -> Vec<Change> {
        let id = || member_id.clone();
        let metadata = GroupMetadata { epoch: self.metadata.epoch + 1, ..self.metadata.clone() };
        vec![
            Change::Current(id(), None),
            Change::Target(id(), None),
            Change::Member(id(), None),
            Change::Metadata(Some(metadata)),
        ]
    }

    /// What removes an empty group from the log.
    pub(crate) fn tombstones(&self) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        let changes = [Change::TargetMetadata(None), Change::Metadata(None), Change::Topology(None)];
        changes.iter().map(|change| change.to_record(&self.id)).collect()
    }

    /// Whether the application reads `topic`: its offsets are kept then.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        let reads = |topology: &Rc<Topology>| topology.reader_of(topic).is_some();
        !self.members.is_empty() && self.topology.as_ref().is_some_and(reads)
    }

    pub(crate) fn is_revoking(&self, member_id: &str) -> bool {
        self.members.get(member_id).is_some_and(|member| member.current.state == MemberState::UnrevokedTasks)
    }
}
