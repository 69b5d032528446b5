//! Offsets that go: OffsetDelete, and topics that are deleted.

use corelane_protocol::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::classic::ClassicGroup;
use super::coordinator::GroupCoordinator;
use super::outcome::{Effects, Outcome};
use super::reject;
use super::retention::Tombstones;
use super::state::GroupState;
use crate::Now;

impl GroupCoordinator {
    /// An administrator removes offsets. Those of topics that members read are kept.
    pub fn offset_delete(&mut self, now: Now, request: &OffsetDeleteRequest) -> Outcome<OffsetDeleteResponse> {
        let group = match self.groups.get(&request.group_id) {
            _ if request.group_id.is_empty() => return Outcome::now(reject::offset_delete(ErrorCode::InvalidGroupId)),
            None => return Outcome::now(reject::offset_delete(ErrorCode::GroupIdNotFound)),
            Some(group) => group,
        };
        if let Err(error) = group.check_offset_delete() {
            return Outcome::now(reject::offset_delete(error));
        }
        let group_id = group.id().clone();
        let mut response = OffsetDeleteResponse::default();
        let mut gone = Tombstones::default();
        for topic in &request.topics {
            let subscribed = group.is_subscribed_to(&topic.name);
            let error = if subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            let partition =
                |partition_index| OffsetDeleteResponsePartition { partition_index, error_code: error.code() };
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            for index in indexes.clone() {
                let has_any = self.offsets.get(&group_id, &topic.name, index).is_some()
                    || self.pending.has(&group_id, &topic.name, index);
                if !subscribed && has_any {
                    gone.offset(&group_id, &topic.name.detach(), index);
                }
            }
            response.topics.push(OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: indexes.map(partition).collect(),
            });
        }
        let mut out = Effects::default();
        self.bury(now, gone, &mut out);
        self.answer_after_writes(now, response, out)
    }

    /// Topics are gone: so are the offsets of their partitions. `topics` are names and ids.
    pub fn topics_deleted(&mut self, now: Now, topics: &[(Str, Uuid)]) -> Effects {
        let mut gone = Tombstones::default();
        for (group, offsets) in self.offsets.groups() {
            for (name, id) in topics {
                for (partition, offset) in offsets.get(name).into_iter().flatten() {
                    if offset.topic_id.is_zero() || offset.topic_id == *id {
                        gone.offset(group, &name.detach(), *partition);
                    }
                }
            }
        }
        for group in self.pending.groups() {
            for (_, offsets) in self.pending.of_group(group) {
                for (name, _) in topics {
                    for partition in offsets.get(name).into_iter().flat_map(|partitions| partitions.keys()) {
                        if self.offsets.get(group, name, *partition).is_none() {
                            gone.offset(group, &name.detach(), *partition);
                        }
                    }
                }
            }
        }
        let mut out = Effects::default();
        self.bury(now, gone, &mut out);
        self.forget_share_topics(now, topics, &mut out);
        self.settle(now, &mut out);
        out
    }
}

impl ClassicGroup {
    /// Offsets of a group with members can be deleted only if it can be told what they read.
    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.is_in(GroupState::Empty) || self.uses_consumer_protocol() {
            Ok(())
        } else {
            Err(ErrorCode::NonEmptyGroup)
        }
    }
}
