//! Members that go: by themselves, or because nothing is heard of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use corelane_protocol::{ErrorCode, Str};

use super::batch::Batch;
use super::change::{Change, GroupEpoch};
use super::group::ConsumerGroup;
use super::heartbeat::{check_instance, unknown_instance};
use super::member::{Current, LEAVING_FOR_A_WHILE};
use crate::group::env::Env;
use crate::group::modern::partitions::Owned;
use crate::group::refusal::Refusal;

/// What leaving comes to.
pub(super) enum Leave {
    /// The member is gone.
    Member(Str),
    /// A static member is away for a while, with what it has.
    Away(Str),
}

impl ConsumerGroup {
    /// Whether, and how, the member may leave.
    pub(super) fn check_leave(&self, request: &ConsumerGroupHeartbeatRequest) -> Result<Leave, Refusal> {
        let member_id = request.member_id.detach();
        let Some(instance_id) = &request.instance_id else {
            return if self.has(&member_id) {
                Ok(Leave::Member(member_id))
            } else {
                Err(self.unknown_member(&member_id))
            };
        };
        let current = self.static_members.get(instance_id).ok_or_else(|| unknown_instance(instance_id))?;
        check_instance(current, &member_id, instance_id)?;
        Ok(match request.member_epoch {
            LEAVING_FOR_A_WHILE => Leave::Away(member_id),
            _ => Leave::Member(member_id),
        })
    }

    /// Keeps the partitions of a static member that says it will be back; they count from epoch 0 for whoever that will be.
    pub(super) fn set_away(&mut self, batch: &mut Batch, member: &Str) {
        let current = self.current(member);
        let mut assigned: Owned = current.assigned.clone();
        assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|since| *since = 0);
        let away = Current { epoch: LEAVING_FOR_A_WHILE, assigned, revoking: Owned::new(), ..(*current).clone() };
        self.change(batch, Change::Current(member.clone(), Some(Arc::new(away))));
    }

    /// Removes members with all that they have; the others will share it.
    pub(super) fn fence(&mut self, env: &mut Env<'_>, batch: &mut Batch, members: &BTreeSet<Str>) {
        if members.is_empty() {
            return;
        }
        for member in members {
            self.remove_member(batch, member);
        }
        let unread: Vec<Str> =
            self.resolved.keys().filter(|regex| !self.regexes.contains_key(*regex)).cloned().collect();
        unread.into_iter().for_each(|regex| self.change(batch, Change::Regex(regex, None)));
        let topics_hash = env.catalog.group_hash(self.readers.keys());
        let epoch = self.epoch.epoch + 1;
        self.change(batch, Change::Epoch(Some(GroupEpoch { epoch, topics_hash })));
        for member in members {
            self.timers.remove(member);
        }
    }
}

pub(super) fn left(member_id: &Str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse { member_id: Some(member_id.clone()), member_epoch: epoch, ..Default::default() }
}

pub(super) fn refused(refusal: Refusal) -> ConsumerGroupHeartbeatResponse {
    let message = (refusal.code != ErrorCode::UnknownServerError).then(|| refusal.message.into());
    ConsumerGroupHeartbeatResponse { error_code: refusal.code.code(), error_message: message, ..Default::default() }
}
