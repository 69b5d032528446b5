//! What is stored of a streams group, in Kafka's schemas: each record sets one thing, or takes it away.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned};
use corelane_protocol::records::group::*;
use corelane_protocol::{DecodeError, Decoder, EncodeError, Message, Str};

use super::member::{CurrentAssignment, MemberMetadata, MemberState};
use super::tasks::{AssignedTasks, EpochTasks, TaskSet, Tasks};
use super::topology::Topology;
use crate::CoordinatorRecord;
use crate::group::persist::record;

/// The epochs of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupMetadata {
    pub(crate) epoch: i32,
    pub(crate) metadata_hash: i64,
    /// The topology's, once it fits the topics there are; -1 before.
    pub(crate) validated_topology_epoch: i32,
    /// The settings that the last assignment was made with.
    pub(crate) assignment_configs: BTreeMap<Str, Str>,
}

impl Default for GroupMetadata {
    fn default() -> GroupMetadata {
        GroupMetadata { epoch: 1, metadata_hash: 0, validated_topology_epoch: 0, assignment_configs: BTreeMap::new() }
    }
}

/// When the target assignment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetMetadata {
    pub(crate) epoch: i32,
    /// Wall clock.
    pub(crate) made_ms: i64,
}

impl TargetMetadata {
    /// A new group's, as if its first epoch had been assigned.
    pub(crate) const INITIAL: TargetMetadata = TargetMetadata { epoch: 1, made_ms: 0 };
    /// After its tombstone.
    pub(crate) const GONE: TargetMetadata = TargetMetadata { epoch: -1, made_ms: 0 };
}

/// One record: what it is about, and what that becomes; `None` is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Metadata(Option<GroupMetadata>),
    Member(Str, Option<MemberMetadata>),
    TargetMetadata(Option<TargetMetadata>),
    Target(Str, Option<TaskSet>),
    Current(Str, Option<CurrentAssignment>),
    Topology(Option<Rc<Topology>>),
}

/// The only version of these records' values.
const VERSION: i16 = 0;

impl Change {
    pub(crate) fn is_tombstone(&self) -> bool {
        match self {
            Change::Metadata(value) => value.is_none(),
            Change::Member(_, value) => value.is_none(),
            Change::TargetMetadata(value) => value.is_none(),
            Change::Target(_, value) => value.is_none(),
            Change::Current(_, value) => value.is_none(),
            Change::Topology(value) => value.is_none(),
        }
    }

    pub(crate) fn to_record(&self, group_id: &Str) -> Result<CoordinatorRecord, EncodeError> {
        let group_id = group_id.clone();
        match self {
            Change::Metadata(value) => {
                let value = value.as_ref().map(|metadata| {
                    let pair = |(key, value): (&Str, &Str)| StreamsGroupMetadataValueLastAssignmentConfig {
                        key: key.clone(),
                        value: value.clone(),
                        ..Default::default()
                    };
                    StreamsGroupMetadataValue {
                        epoch: metadata.epoch,
                        metadata_hash: metadata.metadata_hash,
                        validated_topology_epoch: metadata.validated_topology_epoch,
                        last_assignment_configs: Some(metadata.assignment_configs.iter().map(pair).collect()),
                        ..Default::default()
                    }
                });
                record(&StreamsGroupMetadataKey { group_id }, value.map(|value| (value, VERSION)))
            }
            Change::Member(member_id, value) => {
                let value = value.as_ref().map(|metadata| {
                    let pair = |(key, value): (&Str, &Str)| StreamsGroupMemberMetadataValueKeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        ..Default::default()
                    };
                    let endpoint = |(host, port): &(Str, u16)| StreamsGroupMemberMetadataValueEndpoint {
                        host: host.clone(),
                        port: *port,
                        ..Default::default()
                    };
                    StreamsGroupMemberMetadataValue {
                        instance_id: metadata.instance_id.clone(),
                        rack_id: metadata.rack_id.clone(),
                        client_id: metadata.client_id.clone(),
                        client_host: metadata.client_host.clone(),
                        rebalance_timeout_ms: metadata.rebalance_timeout_ms,
                        topology_epoch: metadata.topology_epoch,
                        process_id: metadata.process_id.clone(),
                        user_endpoint: metadata.user_endpoint.as_ref().map(endpoint),
                        client_tags: metadata.client_tags.iter().map(pair).collect(),
                        ..Default::default()
                    }
                });
                let member_id = member_id.clone();
                let key = StreamsGroupMemberMetadataKey { group_id, member_id };
                record(&key, value.map(|value| (value, VERSION)))
            }
            Change::TargetMetadata(value) => {
                let value = value.map(|target| StreamsGroupTargetAssignmentMetadataValue {
                    assignment_epoch: target.epoch,
                    assignment_timestamp: target.made_ms,
                    ..Default::default()
                });
                record(&StreamsGroupTargetAssignmentMetadataKey { group_id }, value.map(|value| (value, VERSION)))
            }
            Change::Target(member_id, value) => {
                let value = value.as_ref().map(|target| StreamsGroupTargetAssignmentMemberValue {
                    active_tasks: target_ids(&target.active),
                    standby_tasks: target_ids(&target.standby),
                    warmup_tasks: target_ids(&target.warmup),
                    ..Default::default()
                });
                let key = StreamsGroupTargetAssignmentMemberKey { group_id, member_id: member_id.clone() };
                record(&key, value.map(|value| (value, VERSION)))
            }
            Change::Current(member_id, value) => {
                let value = value.as_ref().map(|current| StreamsGroupCurrentMemberAssignmentValue {
                    member_epoch: current.epoch,
                    previous_member_epoch: current.previous_epoch,
                    state: current.state.code(),
                    active_tasks: epoch_ids(&current.assigned.active),
                    standby_tasks: current_ids(&current.assigned.standby),
                    warmup_tasks: current_ids(&current.assigned.warmup),
                    active_tasks_pending_revocation: epoch_ids(&current.revoked.active),
                    standby_tasks_pending_revocation: current_ids(&current.revoked.standby),
                    warmup_tasks_pending_revocation: current_ids(&current.revoked.warmup),
                    ..Default::default()
                });
                let key = StreamsGroupCurrentMemberAssignmentKey { group_id, member_id: member_id.clone() };
                record(&key, value.map(|value| (value, VERSION)))
            }
            Change::Topology(value) => {
                let value = value.as_ref().map(|topology| topology.to_value());
                record(&StreamsGroupTopologyKey { group_id }, value.map(|value| (value, VERSION)))
            }
        }
    }

    /// The group and the change that a record is about; `None` if it is about no streams group, or a topology that none has.
    /// What comes out holds text of its own.
    pub(crate) fn from_record(key: &Bytes, value: Option<&Bytes>) -> Result<Option<(Str, Change)>, DecodeError> {
        // names in the records are slices of them
        let mut d = Decoder::new(Bytes::copy_from_slice(key));
        let value = value.map(|value| Bytes::copy_from_slice(value));
        let d = &mut d;
        Ok(Some(match d.i16()? {
            StreamsGroupMetadataKey::RECORD_TYPE => {
                let key = StreamsGroupMetadataKey::decode(d, 0)?;
                (key.group_id, Change::Metadata(read::<StreamsGroupMetadataKey>(value)?.map(group_metadata)))
            }
            StreamsGroupMemberMetadataKey::RECORD_TYPE => {
                let key = StreamsGroupMemberMetadataKey::decode(d, 0)?;
                let value = read::<StreamsGroupMemberMetadataKey>(value)?.map(member_metadata);
                (key.group_id, Change::Member(key.member_id, value))
            }
            StreamsGroupTargetAssignmentMetadataKey::RECORD_TYPE => {
                let key = StreamsGroupTargetAssignmentMetadataKey::decode(d, 0)?;
                let value = read::<StreamsGroupTargetAssignmentMetadataKey>(value)?;
                let target = |v: StreamsGroupTargetAssignmentMetadataValue| TargetMetadata {
                    epoch: v.assignment_epoch,
                    made_ms: v.assignment_timestamp,
                };
                (key.group_id, Change::TargetMetadata(value.map(target)))
            }
            StreamsGroupTargetAssignmentMemberKey::RECORD_TYPE => {
                let key = StreamsGroupTargetAssignmentMemberKey::decode(d, 0)?;
                let value = read::<StreamsGroupTargetAssignmentMemberKey>(value)?;
                let ids = |ids: Vec<StreamsGroupTargetAssignmentMemberValueTaskIds>| -> Tasks {
                    tasks(ids.into_iter().map(|ids| (ids.subtopology_id, ids.partitions)))
                };
                let target = |v: StreamsGroupTargetAssignmentMemberValue| TaskSet {
                    active: ids(v.active_tasks),
                    standby: ids(v.standby_tasks),
                    warmup: ids(v.warmup_tasks),
                };
                (key.group_id, Change::Target(key.member_id, value.map(target)))
            }
            StreamsGroupCurrentMemberAssignmentKey::RECORD_TYPE => {
                let key = StreamsGroupCurrentMemberAssignmentKey::decode(d, 0)?;
                let value = read::<StreamsGroupCurrentMemberAssignmentKey>(value)?.map(current_assignment);
                (key.group_id, Change::Current(key.member_id, value))
            }
            StreamsGroupTopologyKey::RECORD_TYPE => {
                let key = StreamsGroupTopologyKey::decode(d, 0)?;
                let topology = match read::<StreamsGroupTopologyKey>(value)? {
                    None => None,
                    Some(value) => match Topology::from_value(value) {
                        None => return Ok(None),
                        Some(topology) => Some(Rc::new(topology)),
                    },
                };
                (key.group_id, Change::Topology(topology))
            }
            _ => return Ok(None),
        }))
    }
}

fn read<K: CoordinatorKey>(value: Option<Bytes>) -> Result<Option<K::Value>, DecodeError> {
    Ok(value.map(decode_versioned::<K::Value>).transpose()?.map(|(value, _)| value))
}

fn group_metadata(value: StreamsGroupMetadataValue) -> GroupMetadata {
    let configs = value.last_assignment_configs.unwrap_or_default();
    GroupMetadata {
        epoch: value.epoch,
        metadata_hash: value.metadata_hash,
        validated_topology_epoch: value.validated_topology_epoch,
        assignment_configs: configs.into_iter().map(|pair| (pair.key, pair.value)).collect(),
    }
}

fn member_metadata(value: StreamsGroupMemberMetadataValue) -> MemberMetadata {
    MemberMetadata {
        instance_id: value.instance_id,
        rack_id: value.rack_id,
        client_id: value.client_id,
        client_host: value.client_host,
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        topology_epoch: value.topology_epoch,
        process_id: value.process_id,
        user_endpoint: value.user_endpoint.map(|endpoint| (endpoint.host, endpoint.port)),
        client_tags: value.client_tags.into_iter().map(|pair| (pair.key, pair.value)).collect(),
    }
}

type CurrentIds = Vec<StreamsGroupCurrentMemberAssignmentValueTaskIds>;

fn current_assignment(value: StreamsGroupCurrentMemberAssignmentValue) -> CurrentAssignment {
    let simple = |ids: CurrentIds| tasks(ids.into_iter().map(|ids| (ids.subtopology_id, ids.partitions)));
    let with_epochs = |ids: CurrentIds| -> EpochTasks {
        let mut tasks = EpochTasks::new();
        for ids in ids {
            let epochs = ids.assignment_epochs.filter(|epochs| epochs.len() == ids.partitions.len());
            // written before there were such epochs
            let epochs = epochs.unwrap_or_else(|| vec![value.member_epoch; ids.partitions.len()]);
            if !ids.partitions.is_empty() {
                tasks.entry(ids.subtopology_id).or_default().extend(ids.partitions.into_iter().zip(epochs));
            }
        }
        tasks
    };
    CurrentAssignment {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_code(value.state),
        assigned: AssignedTasks {
            active: with_epochs(value.active_tasks),
            standby: simple(value.standby_tasks),
            warmup: simple(value.warmup_tasks),
        },
        revoked: AssignedTasks {
            active: with_epochs(value.active_tasks_pending_revocation),
            standby: simple(value.standby_tasks_pending_revocation),
            warmup: simple(value.warmup_tasks_pending_revocation),
        },
    }
}

/// Tasks from lists of them.
pub(crate) fn tasks(ids: impl Iterator<Item = (Str, Vec<i32>)>) -> Tasks {
    let mut tasks = Tasks::new();
    for (id, partitions) in ids.filter(|(_, partitions)| !partitions.is_empty()) {
        tasks.entry(id).or_default().extend(partitions);
    }
    tasks
}

fn target_ids(tasks: &Tasks) -> Vec<StreamsGroupTargetAssignmentMemberValueTaskIds> {
    let ids = |(id, partitions): (&Str, &BTreeSet<i32>)| StreamsGroupTargetAssignmentMemberValueTaskIds {
        subtopology_id: id.clone(),
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    tasks.iter().map(ids).collect()
}

fn current_ids(tasks: &Tasks) -> CurrentIds {
    let ids = |(id, partitions): (&Str, &BTreeSet<i32>)| StreamsGroupCurrentMemberAssignmentValueTaskIds {
        subtopology_id: id.clone(),
        partitions: partitions.iter().copied().collect(),
        assignment_epochs: None,
        ..Default::default()
    };
    tasks.iter().map(ids).collect()
}

fn epoch_ids(tasks: &EpochTasks) -> CurrentIds {
    let ids = |(id, partitions): (&Str, &BTreeMap<i32, i32>)| StreamsGroupCurrentMemberAssignmentValueTaskIds {
        subtopology_id: id.clone(),
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
        ..Default::default()
    };
    tasks.iter().map(ids).collect()
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
