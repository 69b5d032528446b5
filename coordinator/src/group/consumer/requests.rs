//! The requests of the consumer protocol, at the coordinator: checks that need no group, and which group it is.

use std::collections::BTreeSet;

use corelane_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse,
    LeaveGroupResponseMemberResponse,
};
use corelane_protocol::{ErrorCode, Str};

use super::batch::Batch;
use super::downgrade::Downgrade;
use super::heartbeat::{check_instance, unknown_instance};
use super::leave::{Leave, left, refused};
use super::member::{JOINING, LEAVING, LEAVING_FOR_A_WHILE};
use super::sessions::Due;
use crate::Now;
use crate::group::RequestContext;
use crate::group::coordinator::GroupCoordinator;
use crate::group::leave;
use crate::group::modern::assignor::Assignor;
use crate::group::outcome::{Effects, Outcome, Response};
use crate::group::refusal::Refusal;
use crate::group::reject;

/// From this version on members make their ids themselves.
const MEMBER_ID_FROM: i16 = 1;

impl GroupCoordinator {
    /// A member of the consumer protocol joins, says that it is there and what it owns, or leaves. Answered when what that
    /// changes is stored.
    pub fn consumer_group_heartbeat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Outcome<ConsumerGroupHeartbeatResponse> {
        let mut out = Effects::default();
        if let Err(refusal) = self.check_heartbeat_request(context, request) {
            return Outcome::now(refused(refusal));
        }
        let mut batch = Batch::default();
        let done = match request.member_epoch {
            LEAVING | LEAVING_FOR_A_WHILE => self.leave_consumer_group(now, request, &mut batch, &mut out),
            _ => self.consumer_beat(now, context, request, &mut batch, &mut out),
        };
        match done {
            Ok(response) => self.finish_batch(now, &request.group_id, batch, response, out),
            Err(refusal) => {
                self.drop_batch(now, batch, &mut out);
                Outcome { effects: out, ..Outcome::now(refused(refusal)) }
            }
        }
    }

    /// Writes a batch, and answers when that, and all that was written of the group before, is stored.
    pub(super) fn finish_batch<R>(
        &mut self,
        now: Now,
        group: &Str,
        batch: Batch,
        response: R,
        mut out: Effects,
    ) -> Outcome<R>
    where
        R: Into<Response> + TryFrom<Response>,
    {
        self.write_batch(now, &group.detach(), batch, &mut out);
        let Some(last) = self.writes.last_of(group) else { return Outcome { effects: out, ..Outcome::now(response) } };
        let token = self.next_token();
        self.writes.reply_after(last, token, response);
        self.settle(now, &mut out);
        Outcome::from_effects(token, out)
    }

    fn check_heartbeat_request(
        &self,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(), Refusal> {
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        let epoch = request.member_epoch;
        let named = context.api_version >= MEMBER_ID_FROM || epoch > 0 || epoch == LEAVING;
        if named && request.member_id.trim().is_empty() {
            return invalid("MemberId can't be empty.");
        }
        if request.group_id.trim().is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if is_blank(&request.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if is_blank(&request.rack_id) {
            return invalid("RackId can't be empty.");
        }
        if epoch == JOINING {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        } else if epoch == LEAVING_FOR_A_WHILE {
            if request.instance_id.is_none() {
                return invalid("InstanceId can't be null.");
            }
        } else if epoch < LEAVING_FOR_A_WHILE {
            return invalid("MemberEpoch is invalid.");
        }
        let assignors = &self.config.consumer.assignors;
        match &request.server_assignor {
            Some(name) if !Assignor::named(name).is_some_and(|assignor| assignors.contains(&assignor)) => {
                let supported: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
                let supported = supported.join(", ");
                let message = format!("ServerAssignor {name} is not supported. Supported assignors: {supported}.");
                Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
            }
            _ => Ok(()),
        }
    }

    fn consumer_beat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
        batch: &mut Batch,
        out: &mut Effects,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        if request.member_epoch == JOINING {
            self.open_consumer_group(now, &request.group_id, batch, out)?;
        } else if !self.groups.contains_key(&request.group_id) {
            let message = format!("Consumer group {} not found.", request.group_id);
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        }
        let (groups, mut env) = self.parts(now, out);
        let group = groups.consumer_mut(&request.group_id).ok_or_else(|| not_a_consumer_group(&request.group_id))?;
        group.heartbeat(&mut env, batch, context, request)
    }

    fn leave_consumer_group(
        &mut self,
        now: Now,
        request: &ConsumerGroupHeartbeatRequest,
        batch: &mut Batch,
        out: &mut Effects,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let group_id = &request.group_id;
        if !self.groups.contains_key(group_id) {
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")));
        }
        let group = self.groups.consumer_mut(group_id).ok_or_else(|| not_a_consumer_group(group_id))?;
        match group.check_leave(request)? {
            Leave::Away(member) => {
                group.set_away(batch, &member);
                Ok(left(&member, LEAVING_FOR_A_WHILE))
            }
            Leave::Member(member) => {
                self.fence_members(now, group_id, BTreeSet::from([member.clone()]), batch, out)?;
                Ok(left(&member, request.member_epoch))
            }
        }
    }

    /// Members are out. If nobody is left who speaks the consumer protocol, the group is a classic one from now on.
    fn fence_members(
        &mut self,
        now: Now,
        group_id: &str,
        members: BTreeSet<Str>,
        batch: &mut Batch,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let (groups, mut env) = self.parts(now, out);
        let Some(group) = groups.consumer_mut(group_id).filter(|_| !members.is_empty()) else { return Ok(()) };
        if group.ends_without(env.config, &members) {
            let end = Downgrade { generation: group.epoch.epoch, without: members, rebalance: true };
            return self.downgrade(now, group_id, &end, batch, out);
        }
        group.fence(&mut env, batch, &members);
        Ok(())
    }

    /// Members of a consumer group are removed by LeaveGroup, as administrators do.
    pub(crate) fn leave_consumer_group_by_name(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &LeaveGroupRequest,
    ) -> Option<Outcome<LeaveGroupResponse>> {
        let group = self.groups.consumer(&request.group_id)?;
        let (mut leaving, mut members) = (BTreeSet::new(), Vec::with_capacity(request.members.len()));
        for asked in &request.members {
            let found = match &asked.group_instance_id {
                None if group.has(&asked.member_id) => Ok(asked.member_id.detach()),
                None => Err(group.unknown_member(&asked.member_id)),
                Some(instance_id) => group.static_members.get(instance_id).cloned().map_or_else(
                    || Err(unknown_instance(instance_id)),
                    |member| match asked.member_id.is_empty() {
                        true => Ok(member),
                        false => check_instance(&member, &asked.member_id, instance_id).map(|()| member),
                    },
                ),
            };
            members.push(LeaveGroupResponseMemberResponse {
                member_id: asked.member_id.clone(),
                group_instance_id: asked.group_instance_id.clone(),
                error_code: found.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.code).code(),
                ..Default::default()
            });
            leaving.extend(found.ok());
        }
        let (mut batch, mut out) = (Batch::default(), Effects::default());
        if let Err(refusal) = self.fence_members(now, &request.group_id, leaving, &mut batch, &mut out) {
            return Some(Outcome { effects: out, ..Outcome::now(reject::leave(refusal.code)) });
        }
        let response = leave::fit(context.api_version, LeaveGroupResponse { members, ..Default::default() });
        Some(self.finish_batch(now, &request.group_id, batch, response, out))
    }

    /// Does what a deadline asks for.
    pub(crate) fn consumer_group_due(&mut self, now: Now, group_id: &Str, due: Due, out: &mut Effects) {
        let mut batch = Batch::default();
        match due {
            Due::Nothing => return,
            Due::Fence(member) => {
                let members = BTreeSet::from([member]);
                if self.fence_members(now, group_id, members.clone(), &mut batch, out).is_err() {
                    // A subscription that cannot be read keeps it from becoming a classic group; the member is gone all the
                    // same. Kafka's stays then, with no timer left that would ever end it, and its partitions go to nobody.
                    let (groups, mut env) = self.parts(now, out);
                    if let Some(group) = groups.consumer_mut(group_id) {
                        group.fence(&mut env, &mut batch, &members);
                    }
                }
            }
            Due::ResolveRegexes => {
                let (groups, mut env) = self.parts(now, out);
                if let Some(group) = groups.consumer_mut(group_id) {
                    group.resolve_regexes(&mut env, &mut batch);
                }
            }
        }
        self.write_batch(now, group_id, batch, out);
    }
}

pub(super) fn not_a_consumer_group(group_id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} is not a consumer group."))
}
