//! Consumer groups out of their log.

use std::sync::Arc;

use bytes::Bytes;
use corelane_protocol::record_frame::{CoordinatorKey, decode_versioned};
use corelane_protocol::records::group::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupMemberMetadataKey, ConsumerGroupMetadataKey,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMetadataKey,
};
use corelane_protocol::{DecodeError, Decoder, Message, Str};

use super::change::{Change, GroupEpoch, Resolved, TargetEpoch, target_from_value};
use super::group::ConsumerGroup;
use super::member::{Current, Subscription};
use crate::group::coordinator::GroupCoordinator;
use crate::group::table::Group;

impl GroupCoordinator {
    /// Takes over one record if it is of a consumer group; false if it is not.
    pub(crate) fn replay_consumer_group(
        &mut self,
        record_type: i16,
        key: &mut Decoder,
        value: Option<Bytes>,
    ) -> Result<bool, DecodeError> {
        let is_tombstone = value.is_none();
        let (group, change) = match record_type {
            ConsumerGroupMetadataKey::RECORD_TYPE => {
                let (key, value) = read::<ConsumerGroupMetadataKey>(key, value)?;
                let epoch = |v: <ConsumerGroupMetadataKey as CoordinatorKey>::Value| GroupEpoch {
                    epoch: v.epoch,
                    topics_hash: v.metadata_hash,
                };
                if is_tombstone {
                    // A classic group of this id came after it, and stays.
                    if self.groups.consumer(&key.group_id).is_some() {
                        self.groups.remove(&key.group_id);
                    }
                    return Ok(true);
                }
                (key.group_id, Change::Epoch(value.map(epoch)))
            }
            ConsumerGroupPartitionMetadataKey::RECORD_TYPE => {
                let (key, _) = read::<ConsumerGroupPartitionMetadataKey>(key, value)?;
                (key.group_id, Change::OldTopics(!is_tombstone))
            }
            ConsumerGroupMemberMetadataKey::RECORD_TYPE => {
                let (key, value) = read::<ConsumerGroupMemberMetadataKey>(key, value)?;
                let subscription = value.map(|value| Arc::new(Subscription::from_value(&value)));
                (key.group_id, Change::Subscription(key.member_id.detach(), subscription))
            }
            ConsumerGroupTargetAssignmentMetadataKey::RECORD_TYPE => {
                let (key, value) = read::<ConsumerGroupTargetAssignmentMetadataKey>(key, value)?;
                let epoch = |v: <ConsumerGroupTargetAssignmentMetadataKey as CoordinatorKey>::Value| TargetEpoch {
                    epoch: v.assignment_epoch,
                    made_at_ms: v.assignment_timestamp,
                };
                (key.group_id, Change::TargetEpoch(value.map(epoch)))
            }
            ConsumerGroupTargetAssignmentMemberKey::RECORD_TYPE => {
                let (key, value) = read::<ConsumerGroupTargetAssignmentMemberKey>(key, value)?;
                let target = value.map(|value| Arc::new(target_from_value(&value)));
                (key.group_id, Change::Target(key.member_id.detach(), target))
            }
            ConsumerGroupCurrentMemberAssignmentKey::RECORD_TYPE => {
                let (key, value) = read::<ConsumerGroupCurrentMemberAssignmentKey>(key, value)?;
                let current = value.map(|value| Arc::new(Current::from_value(&value)));
                (key.group_id, Change::Current(key.member_id.detach(), current))
            }
            ConsumerGroupRegularExpressionKey::RECORD_TYPE => {
                let (key, value) = read::<ConsumerGroupRegularExpressionKey>(key, value)?;
                let resolved = value.map(|value| {
                    let topics = value.topics.iter().map(Str::detach).collect();
                    Arc::new(Resolved { topics, at_ms: value.timestamp })
                });
                (key.group_id, Change::Regex(key.regular_expression.detach(), resolved))
            }
            _ => return Ok(false),
        };
        if let Some(group) = self.replayed_group(&group, !is_tombstone) {
            group.apply(change);
        }
        Ok(true)
    }

    /// The consumer group of this id; made if need be, in place of a classic one that only held offsets.
    fn replayed_group(&mut self, group_id: &Str, create: bool) -> Option<&mut ConsumerGroup> {
        let replaced = match self.groups.get(group_id) {
            Some(Group::Consumer(_) | Group::Share(_) | Group::Streams(_)) => false,
            Some(Group::Classic(group)) => {
                group.protocol_type.is_none() && group.is_in(crate::group::GroupState::Empty)
            }
            None => true,
        };
        if replaced && create {
            let group = ConsumerGroup::new(group_id.detach(), self.next_incarnation());
            self.groups.add(Group::Consumer(group));
        }
        self.groups.consumer_mut(group_id)
    }
}

type Read<K> = (K, Option<<K as CoordinatorKey>::Value>);

fn read<K: CoordinatorKey>(key: &mut Decoder, value: Option<Bytes>) -> Result<Read<K>, DecodeError>
where
    K::Value: Message,
{
    let key = K::decode(key, 0)?;
    let value = value.map(decode_versioned::<K::Value>).transpose()?;
    Ok((key, value.map(|(value, _)| value)))
}
