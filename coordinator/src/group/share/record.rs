//! Share groups as records, in Kafka's schemas.

use std::collections::BTreeSet;

use bytes::Bytes;
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned};
use corelane_protocol::records::group::{
    ShareGroupCurrentMemberAssignmentKey, ShareGroupCurrentMemberAssignmentValue,
    ShareGroupCurrentMemberAssignmentValueTopicPartitions, ShareGroupMemberMetadataKey, ShareGroupMemberMetadataValue,
    ShareGroupMetadataKey, ShareGroupMetadataValue, ShareGroupStatePartitionMetadataKey,
    ShareGroupStatePartitionMetadataValue, ShareGroupStatePartitionMetadataValueTopicInfo,
    ShareGroupStatePartitionMetadataValueTopicPartitionsInfo, ShareGroupTargetAssignmentMemberKey,
    ShareGroupTargetAssignmentMemberValue, ShareGroupTargetAssignmentMemberValueTopicPartition,
    ShareGroupTargetAssignmentMetadataKey, ShareGroupTargetAssignmentMetadataValue,
};
use corelane_protocol::{DecodeError, Decoder, EncodeError, Message, Str, Uuid};

use super::Partitions;
use super::state::{Initialization, Initializations, ShareMember};
use crate::CoordinatorRecord;
use crate::group::persist::record;

/// The version of every value.
const VERSION: i16 = 0;
/// A member's state where there is only one.
const STABLE: i8 = 0;

/// One change of a group. Without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShareRecord {
    /// Who a member is and what it subscribes to.
    Member {
        id: Str,
        value: Option<Subscription>,
    },
    /// What a member has been told.
    Current {
        id: Str,
        value: Option<Assigned>,
    },
    /// What a member is to be told.
    Target {
        id: Str,
        value: Option<Partitions>,
    },
    /// Epoch and wall clock time of the target.
    TargetEpoch(Option<(i32, i64)>),
    /// Epoch of the group, and hash of its topics.
    Epoch(Option<(i32, i64)>),
    Initializations(Option<Initializations>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(super) rack_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) topics: BTreeSet<Str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) partitions: Partitions,
}

impl ShareMember {
    pub(super) fn subscription(&self) -> Subscription {
        Subscription {
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics: self.topics.clone(),
        }
    }

    pub(super) fn told(&self) -> Assigned {
        Assigned { epoch: self.epoch, previous_epoch: self.previous_epoch, partitions: self.assigned.clone() }
    }
}

impl ShareRecord {
    pub(crate) fn is_tombstone(&self) -> bool {
        match self {
            ShareRecord::Member { value, .. } => value.is_none(),
            ShareRecord::Current { value, .. } => value.is_none(),
            ShareRecord::Target { value, .. } => value.is_none(),
            ShareRecord::TargetEpoch(value) | ShareRecord::Epoch(value) => value.is_none(),
            ShareRecord::Initializations(value) => value.is_none(),
        }
    }

    pub(super) fn encode(&self, group: &Str) -> Result<CoordinatorRecord, EncodeError> {
        let group_id = group.clone();
        match self {
            ShareRecord::Member { id, value } => {
                let key = ShareGroupMemberMetadataKey { group_id, member_id: id.clone() };
                record(&key, value.as_ref().map(|value| (subscription_value(value), VERSION)))
            }
            ShareRecord::Current { id, value } => {
                let key = ShareGroupCurrentMemberAssignmentKey { group_id, member_id: id.clone() };
                record(&key, value.as_ref().map(|value| (assigned_value(value), VERSION)))
            }
            ShareRecord::Target { id, value } => {
                let key = ShareGroupTargetAssignmentMemberKey { group_id, member_id: id.clone() };
                record(&key, value.as_ref().map(|value| (target_value(value), VERSION)))
            }
            ShareRecord::TargetEpoch(value) => {
                let value =
                    value.map(|(assignment_epoch, assignment_timestamp)| ShareGroupTargetAssignmentMetadataValue {
                        assignment_epoch,
                        assignment_timestamp,
                        ..Default::default()
                    });
                record(&ShareGroupTargetAssignmentMetadataKey { group_id }, value.map(|value| (value, VERSION)))
            }
            ShareRecord::Epoch(value) => {
                let value = value.map(|(epoch, metadata_hash)| {
                    (ShareGroupMetadataValue { epoch, metadata_hash, ..Default::default() }, VERSION)
                });
                record(&ShareGroupMetadataKey { group_id }, value)
            }
            ShareRecord::Initializations(value) => {
                let key = ShareGroupStatePartitionMetadataKey { group_id };
                record(&key, value.as_ref().map(|value| (initializations_value(value), VERSION)))
            }
        }
    }
}

fn subscription_value(value: &Subscription) -> ShareGroupMemberMetadataValue {
    ShareGroupMemberMetadataValue {
        rack_id: value.rack_id.clone(),
        client_id: value.client_id.clone(),
        client_host: value.client_host.clone(),
        subscribed_topic_names: value.topics.iter().cloned().collect(),
        ..Default::default()
    }
}

fn assigned_value(value: &Assigned) -> ShareGroupCurrentMemberAssignmentValue {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| {
        let (topic_id, partitions) = (*topic_id, partitions.iter().copied().collect());
        ShareGroupCurrentMemberAssignmentValueTopicPartitions { topic_id, partitions, ..Default::default() }
    };
    ShareGroupCurrentMemberAssignmentValue {
        member_epoch: value.epoch,
        previous_member_epoch: value.previous_epoch,
        state: STABLE,
        assigned_partitions: value.partitions.iter().map(topic).collect(),
        ..Default::default()
    }
}

fn target_value(value: &Partitions) -> ShareGroupTargetAssignmentMemberValue {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| {
        let (topic_id, partitions) = (*topic_id, partitions.iter().copied().collect());
        ShareGroupTargetAssignmentMemberValueTopicPartition { topic_id, partitions, ..Default::default() }
    };
    let topic_partitions = value.iter().map(topic).collect();
    ShareGroupTargetAssignmentMemberValue { topic_partitions, ..Default::default() }
}

fn initializations_value(value: &Initializations) -> ShareGroupStatePartitionMetadataValue {
    let topic =
        |(topic_id, topic): (&Uuid, &Initialization)| ShareGroupStatePartitionMetadataValueTopicPartitionsInfo {
            topic_id: *topic_id,
            topic_name: topic.topic.clone(),
            partitions: topic.partitions.iter().copied().collect(),
            ..Default::default()
        };
    let deleting = |(topic_id, name): (&Uuid, &Str)| ShareGroupStatePartitionMetadataValueTopicInfo {
        topic_id: *topic_id,
        topic_name: name.clone(),
        ..Default::default()
    };
    ShareGroupStatePartitionMetadataValue {
        initializing_topics: value.under_way.iter().map(topic).collect(),
        initialized_topics: value.done.iter().map(topic).collect(),
        deleting_topics: value.deleting.iter().map(deleting).collect(),
        ..Default::default()
    }
}

/// A stored record: which group it is of and what it says. `None`: it is none of a share group's.
pub(crate) fn replayed(
    kind: i16,
    key: &mut Decoder,
    value: Option<Bytes>,
) -> Result<Option<(Str, ShareRecord)>, DecodeError> {
    Ok(Some(match kind {
        ShareGroupMemberMetadataKey::RECORD_TYPE => {
            let key = ShareGroupMemberMetadataKey::decode(key, 0)?;
            let value = read::<ShareGroupMemberMetadataValue>(value)?.map(|value| Subscription {
                rack_id: value.rack_id.as_ref().map(Str::detach),
                client_id: value.client_id.detach(),
                client_host: value.client_host.detach(),
                topics: value.subscribed_topic_names.iter().map(Str::detach).collect(),
            });
            (key.group_id, ShareRecord::Member { id: key.member_id.detach(), value })
        }
        ShareGroupCurrentMemberAssignmentKey::RECORD_TYPE => {
            let key = ShareGroupCurrentMemberAssignmentKey::decode(key, 0)?;
            let value = read::<ShareGroupCurrentMemberAssignmentValue>(value)?.map(|value| Assigned {
                epoch: value.member_epoch,
                previous_epoch: value.previous_member_epoch,
                partitions: partitions(value.assigned_partitions.iter().map(|t| (t.topic_id, &t.partitions))),
            });
            (key.group_id, ShareRecord::Current { id: key.member_id.detach(), value })
        }
        ShareGroupTargetAssignmentMemberKey::RECORD_TYPE => {
            let key = ShareGroupTargetAssignmentMemberKey::decode(key, 0)?;
            let value = read::<ShareGroupTargetAssignmentMemberValue>(value)?
                .map(|value| partitions(value.topic_partitions.iter().map(|t| (t.topic_id, &t.partitions))));
            (key.group_id, ShareRecord::Target { id: key.member_id.detach(), value })
        }
        ShareGroupTargetAssignmentMetadataKey::RECORD_TYPE => {
            let key = ShareGroupTargetAssignmentMetadataKey::decode(key, 0)?;
            let value = read::<ShareGroupTargetAssignmentMetadataValue>(value)?;
            let value = value.map(|value| (value.assignment_epoch, value.assignment_timestamp));
            (key.group_id, ShareRecord::TargetEpoch(value))
        }
        ShareGroupMetadataKey::RECORD_TYPE => {
            let key = ShareGroupMetadataKey::decode(key, 0)?;
            let value = read::<ShareGroupMetadataValue>(value)?.map(|value| (value.epoch, value.metadata_hash));
            (key.group_id, ShareRecord::Epoch(value))
        }
        ShareGroupStatePartitionMetadataKey::RECORD_TYPE => {
            let key = ShareGroupStatePartitionMetadataKey::decode(key, 0)?;
            let value = read::<ShareGroupStatePartitionMetadataValue>(value)?.map(|value| Initializations {
                recorded: true,
                under_way: value.initializing_topics.iter().map(initialization).collect(),
                done: value.initialized_topics.iter().map(initialization).collect(),
                deleting: value.deleting_topics.iter().map(|t| (t.topic_id, t.topic_name.detach())).collect(),
            });
            (key.group_id, ShareRecord::Initializations(value))
        }
        _ => return Ok(None),
    }))
}

fn read<M: Message>(value: Option<Bytes>) -> Result<Option<M>, DecodeError> {
    Ok(value.map(decode_versioned::<M>).transpose()?.map(|(value, _)| value))
}

fn partitions<'a>(topics: impl Iterator<Item = (Uuid, &'a Vec<i32>)>) -> Partitions {
    topics.map(|(topic, partitions)| (topic, partitions.iter().copied().collect())).collect()
}

/// When it was heard of is for whoever takes it over to say.
fn initialization(topic: &ShareGroupStatePartitionMetadataValueTopicPartitionsInfo) -> (Uuid, Initialization) {
    let (name, partitions) = (topic.topic_name.detach(), topic.partitions.iter().copied().collect());
    (topic.topic_id, Initialization { topic: name, partitions, since_ms: 0 })
}
