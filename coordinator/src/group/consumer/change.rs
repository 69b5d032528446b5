//! One change of a consumer group, which is one record of its log.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::record_frame::{CoordinatorKey, encode_versioned};
use corelane_protocol::records::group::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupCurrentMemberAssignmentValueTopicPartitions, ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMemberMetadataValueClassicMemberMetadata,
    ConsumerGroupMemberMetadataValueClassicProtocol, ConsumerGroupMetadataKey, ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMemberValueTopicPartition, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use corelane_protocol::{EncodeError, Message, Str};

use super::member::{ClassicMember, Current, MemberState, Subscription};
use crate::CoordinatorRecord;
use crate::group::member::Protocol;
use crate::group::modern::partitions::{Owned, Partitions};

/// What the log says of a group, piece by piece. Nothing instead of a value is a tombstone.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Epoch(Option<GroupEpoch>),
    /// Kafka 4.0 kept what it knew of topics in a record of its own, which later versions remove.
    OldTopics(bool),
    Subscription(Str, Option<Arc<Subscription>>),
    TargetEpoch(Option<TargetEpoch>),
    Target(Str, Option<Arc<Partitions>>),
    Current(Str, Option<Arc<Current>>),
    Regex(Str, Option<Arc<Resolved>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupEpoch {
    pub(crate) epoch: i32,
    /// Of the topics that are read: see [`Catalog::group_hash`](crate::group::modern::topics::Catalog::group_hash).
    pub(crate) topics_hash: i64,
}

/// The epoch that the target assignment was made for, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetEpoch {
    pub(crate) epoch: i32,
    /// Wall clock; 0: not known.
    pub(crate) made_at_ms: i64,
}

/// The topics that a regular expression matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) topics: BTreeSet<Str>,
    /// Wall clock.
    pub(crate) at_ms: i64,
}

impl Change {
    pub(crate) fn to_record(&self, group: &Str) -> Result<CoordinatorRecord, EncodeError> {
        let group_id = group.clone();
        match self {
            Change::Epoch(value) => {
                let value = value.map(|GroupEpoch { epoch, topics_hash }| ConsumerGroupMetadataValue {
                    epoch,
                    metadata_hash: topics_hash,
                    ..Default::default()
                });
                record(&ConsumerGroupMetadataKey { group_id }, value)
            }
            Change::OldTopics(_) => record(&ConsumerGroupPartitionMetadataKey { group_id }, None),
            Change::Subscription(member, value) => record(
                &ConsumerGroupMemberMetadataKey { group_id, member_id: member.clone() },
                value.as_deref().map(Subscription::to_value),
            ),
            Change::TargetEpoch(value) => {
                let value = value.map(|target| ConsumerGroupTargetAssignmentMetadataValue {
                    assignment_epoch: target.epoch,
                    assignment_timestamp: target.made_at_ms,
                    ..Default::default()
                });
                record(&ConsumerGroupTargetAssignmentMetadataKey { group_id }, value)
            }
            Change::Target(member, value) => record(
                &ConsumerGroupTargetAssignmentMemberKey { group_id, member_id: member.clone() },
                value.as_deref().map(target_to_value),
            ),
            Change::Current(member, value) => record(
                &ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id: member.clone() },
                value.as_deref().map(Current::to_value),
            ),
            Change::Regex(regex, value) => {
                let value = value.as_deref().map(|resolved| ConsumerGroupRegularExpressionValue {
                    topics: resolved.topics.iter().cloned().collect(),
                    // Older than any version of the topics that Kafka counts: it would match again.
                    version: 0,
                    timestamp: resolved.at_ms,
                    ..Default::default()
                });
                record(&ConsumerGroupRegularExpressionKey { group_id, regular_expression: regex.clone() }, value)
            }
        }
    }
}

/// Every one of these records is of version 0.
fn record<K: CoordinatorKey>(key: &K, value: Option<K::Value>) -> Result<CoordinatorRecord, EncodeError>
where
    K::Value: Message,
{
    let value = value.map(|value| encode_versioned(&value, 0)).transpose()?;
    Ok(CoordinatorRecord { key: key.to_key_bytes()?, value })
}

impl Subscription {
    fn to_value(&self) -> ConsumerGroupMemberMetadataValue {
        let protocol = |protocol: &Protocol| ConsumerGroupMemberMetadataValueClassicProtocol {
            name: protocol.name.clone(),
            metadata: protocol.metadata.clone(),
            ..Default::default()
        };
        let classic = |member: &ClassicMember| ConsumerGroupMemberMetadataValueClassicMemberMetadata {
            session_timeout_ms: member.session_timeout_ms,
            supported_protocols: member.protocols.iter().map(protocol).collect(),
            ..Default::default()
        };
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topics.iter().cloned().collect(),
            subscribed_topic_regex: Some(self.regex.clone()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: self.classic.as_ref().map(classic),
            ..Default::default()
        }
    }

    pub(super) fn from_value(value: &ConsumerGroupMemberMetadataValue) -> Subscription {
        let detached = |text: &Option<Str>| text.as_ref().map(Str::detach);
        let protocol = |protocol: &ConsumerGroupMemberMetadataValueClassicProtocol| Protocol {
            name: protocol.name.detach(),
            metadata: bytes::Bytes::copy_from_slice(&protocol.metadata),
        };
        Subscription {
            instance_id: detached(&value.instance_id),
            rack_id: detached(&value.rack_id),
            client_id: value.client_id.detach(),
            client_host: value.client_host.detach(),
            topics: value.subscribed_topic_names.iter().map(Str::detach).collect(),
            regex: detached(&value.subscribed_topic_regex).unwrap_or_default(),
            assignor: detached(&value.server_assignor),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            classic: value.classic_member_metadata.as_ref().map(|classic| ClassicMember {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.supported_protocols.iter().map(protocol).collect(),
            }),
        }
    }
}

fn target_to_value(partitions: &Partitions) -> ConsumerGroupTargetAssignmentMemberValue {
    let topic = |(topic_id, partitions): (&corelane_protocol::Uuid, &BTreeSet<i32>)| {
        ConsumerGroupTargetAssignmentMemberValueTopicPartition {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
            ..Default::default()
        }
    };
    let topic_partitions = partitions.iter().map(topic).collect();
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions, ..Default::default() }
}

pub(super) fn target_from_value(value: &ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let topics = value.topic_partitions.iter();
    topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect())).collect()
}

impl Current {
    fn to_value(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        let topics = |owned: &Owned| {
            let topics =
                owned.iter().map(|(topic_id, partitions)| ConsumerGroupCurrentMemberAssignmentValueTopicPartitions {
                    topic_id: *topic_id,
                    partitions: partitions.keys().copied().collect(),
                    assignment_epochs: Some(partitions.values().copied().collect()),
                    ..Default::default()
                });
            topics.collect()
        };
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned_partitions: topics(&self.assigned),
            partitions_pending_revocation: topics(&self.revoking),
            ..Default::default()
        }
    }

    pub(super) fn from_value(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Current {
        // Before partitions had epochs of their own the member's was theirs.
        let since = value.member_epoch.max(0);
        let owned = |topics: &[ConsumerGroupCurrentMemberAssignmentValueTopicPartitions]| -> Owned {
            let topic = |topic: &ConsumerGroupCurrentMemberAssignmentValueTopicPartitions| {
                let partitions = topic.partitions.iter().copied();
                let epochs = topic.assignment_epochs.as_ref().filter(|e| e.len() == topic.partitions.len());
                let partitions = match epochs {
                    Some(epochs) => partitions.zip(epochs.iter().copied()).collect(),
                    None => partitions.map(|partition| (partition, since)).collect(),
                };
                (topic.topic_id, partitions)
            };
            topics.iter().map(topic).collect()
        };
        Current {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_code(value.state),
            assigned: owned(&value.assigned_partitions),
            revoking: owned(&value.partitions_pending_revocation),
        }
    }
}
