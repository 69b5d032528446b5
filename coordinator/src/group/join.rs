//! JoinGroup.

use corelane_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use corelane_protocol::{ErrorCode, Str};

use super::classic::ClassicGroup;
use super::coordinator::GroupCoordinator;
use super::env::{Env, JoinWaiter, TimerKind};
use super::member::{Member, protocols_of};
use super::outcome::{Effects, Outcome, Reply, WaitToken};
use super::persist;
use super::state::GroupState;
use super::table::Group;
use super::writes::{OnWritten, Undo};
use super::{RequestContext, reject};
use crate::Now;
use crate::timer::Timer;

/// The first version in which a new member must come back with the id that it is given.
pub(super) const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// A random UUID in front of which the name must leave room in Kafka's strings.
const MEMBER_ID_SUFFIX: usize = 37;

/// A join being handled.
pub(super) struct Joining<'a> {
    pub(super) context: &'a RequestContext,
    pub(super) request: &'a JoinGroupRequest,
    pub(super) waiter: JoinWaiter,
    pub(super) rebalance_timeout_ms: i32,
}

impl Joining<'_> {
    fn refuse(&self, member_id: &str, error: ErrorCode) -> Reply<JoinGroupResponse> {
        Reply::Now(reject::join_body(member_id, error))
    }

    pub(super) fn wait(&self) -> Reply<JoinGroupResponse> {
        Reply::Later(self.waiter.token)
    }
}

impl GroupCoordinator {
    /// A member wants to be in the next generation. Answered when that begins, or at once if nothing changes for it.
    pub fn join_group(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &JoinGroupRequest,
    ) -> Outcome<JoinGroupResponse> {
        let token = self.next_token();
        let mut out = Effects::default();
        let reply = self.join(now, context, request, token, &mut out);
        self.settle(now, &mut out);
        match reply {
            Reply::Now(mut response) => {
                reject::fit_join(context.api_version, &mut response);
                Outcome { reply: Reply::Now(response), effects: out }
            }
            Reply::Later(token) => Outcome::from_effects(token, out),
        }
    }

    fn join(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &JoinGroupRequest,
        token: WaitToken,
        out: &mut Effects,
    ) -> Reply<JoinGroupResponse> {
        let joining = Joining {
            context,
            request,
            waiter: JoinWaiter { token, api_version: context.api_version },
            // Version 0 has no such field: the session's counts.
            rebalance_timeout_ms: match context.api_version {
                0 => request.session_timeout_ms,
                _ => request.rebalance_timeout_ms,
            },
        };
        let session = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        let member_id = request.member_id.as_str();
        if request.group_id.is_empty() {
            return joining.refuse(member_id, ErrorCode::InvalidGroupId);
        }
        if !session.contains(&request.session_timeout_ms) {
            return joining.refuse(member_id, ErrorCode::InvalidSessionTimeout);
        }
        let name = request.group_instance_id.as_ref().unwrap_or(&context.client_id);
        if name.len() + MEMBER_ID_SUFFIX > i16::MAX as usize {
            return joining.refuse(member_id, ErrorCode::InvalidRequest);
        }
        if self.groups.consumer(&request.group_id).is_some_and(|group| !group.is_empty()) {
            return self.join_consumer_group(now, &joining, out);
        }
        let is_there = match self.groups.get(&request.group_id) {
            // Of an empty group of the newer protocols nothing but the offsets stays.
            Some(Group::Consumer(_)) => false,
            Some(Group::Streams(group)) => !group.members.is_empty(),
            other => other.is_some(),
        };
        if !is_there {
            if !member_id.is_empty() {
                return joining.refuse(member_id, ErrorCode::UnknownMemberId);
            }
            if request.protocol_type.is_empty() || request.protocols.is_empty() {
                return joining.refuse("", ErrorCode::InconsistentGroupProtocol);
            }
            self.create_group(now, &request.group_id, out);
        }
        let max_size = self.config.max_size;
        let (groups, mut env) = self.parts(now, out);
        let Some(group) = groups.classic_mut(&request.group_id) else {
            return joining.refuse("", ErrorCode::InconsistentGroupProtocol);
        };
        if !group.accepts(member_id, max_size) {
            group.remove(&mut env, member_id);
            joining.refuse("", ErrorCode::GroupMaxSizeReached)
        } else if member_id.is_empty() {
            group.join_new(&mut env, &joining)
        } else {
            group.join_known(&mut env, &joining)
        }
    }

    /// A group that a member creates is in the log from the start, before its first generation is.
    fn create_group(&mut self, now: Now, group_id: &Str, out: &mut Effects) {
        let group = self.new_group(now, group_id.detach());
        let replaced = self.groups.remove(group_id);
        let records = replaced.as_ref().map_or(Ok(Vec::new()), Group::tombstones).and_then(|mut records| {
            records.push(persist::empty_group_record(&group.id, now.wall_ms)?);
            Ok(records)
        });
        let mut undo: Vec<Undo> = replaced.map(|group| Undo::RemovedGroup(Box::new(group))).into_iter().collect();
        undo.push(Undo::CreatedGroup { group: group.id.clone(), incarnation: group.incarnation });
        let (groups, mut env) = self.parts(now, out);
        env.write(&group.id, records, OnWritten::Nothing, undo);
        groups.add_classic(group);
    }
}

impl ClassicGroup {
    fn join_new(&mut self, env: &mut Env<'_>, joining: &Joining<'_>) -> Reply<JoinGroupResponse> {
        if !self.supports(joining.request) {
            return joining.refuse("", ErrorCode::InconsistentGroupProtocol);
        }
        let instance_id = joining.request.group_instance_id.as_ref();
        let new_id = joining.context.new_member_id(instance_id.map(Str::as_str));
        match instance_id {
            Some(instance_id) => match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.join_in_place_of(env, joining, instance_id.detach(), old_id, new_id),
                None => self.add_joining(env, joining, new_id),
            },
            None if joining.context.api_version >= MEMBER_ID_REQUIRED_FROM => {
                let mut timer = Timer::default();
                let due = env.now.mono_ms.saturating_add(i64::from(joining.request.session_timeout_ms));
                timer.set(env.timers, due, || self.key(TimerKind::Session(new_id.clone())));
                self.pending_join.insert(new_id.clone(), timer);
                joining.refuse(&new_id, ErrorCode::MemberIdRequired)
            }
            None => self.add_joining(env, joining, new_id),
        }
    }

    fn join_known(&mut self, env: &mut Env<'_>, joining: &Joining<'_>) -> Reply<JoinGroupResponse> {
        let request = joining.request;
        let member_id = request.member_id.detach();
        if !self.supports(request) {
            return joining.refuse(&member_id, ErrorCode::InconsistentGroupProtocol);
        }
        if self.pending_join.contains_key(&member_id) {
            // An id is only ever given out to a dynamic member this way.
            if request.group_instance_id.is_some() {
                return joining.refuse(&member_id, ErrorCode::UnknownServerError);
            }
            return self.add_joining(env, joining, member_id);
        }
        if let Err(error) = self.check_member(&member_id, request.group_instance_id.as_deref()) {
            return joining.refuse(&member_id, error);
        }
        let is_unchanged = self.members.get(&member_id).is_some_and(|member| member.matches(request));
        match self.state {
            // It may not have got the answer to its last join. In a stable group the leader asks for a rebalance by joining:
            // what it assigns may have changed although no member has.
            GroupState::CompletingRebalance if is_unchanged => Reply::Now(self.current_generation(&member_id)),
            GroupState::Stable if is_unchanged && !self.is_leader(&member_id) => {
                Reply::Now(self.current_generation(&member_id))
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(
                    env,
                    &member_id,
                    protocols_of(request),
                    joining.rebalance_timeout_ms,
                    request.session_timeout_ms,
                    Some(joining.waiter),
                );
                self.rebalance_or_complete(env);
                joining.wait()
            }
            GroupState::Empty => joining.refuse(&member_id, ErrorCode::UnknownMemberId),
        }
    }

    fn add_joining(&mut self, env: &mut Env<'_>, joining: &Joining<'_>, member_id: Str) -> Reply<JoinGroupResponse> {
        let request = joining.request;
        let member = Member {
            instance_id: request.group_instance_id.as_ref().map(Str::detach),
            client_id: joining.context.client_id.detach(),
            client_host: joining.context.client_host.detach(),
            rebalance_timeout_ms: joining.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols_of(request),
            assignment: Default::default(),
            awaiting_join: Some(joining.waiter),
            awaiting_sync: None,
            is_new: true,
            session: Timer::default(),
        };
        if self.is_in(GroupState::PreparingRebalance) && self.previous_state == Some(GroupState::Empty) {
            self.new_member_added = true;
        }
        self.add(member_id.clone(), member, Some(request.protocol_type.detach()));
        // It cannot send heartbeats while it does not know its id, and nobody may be there any more when the answer comes.
        self.start_session(env, &member_id, env.config.new_member_join_timeout_ms);
        self.rebalance_or_complete(env);
        joining.wait()
    }
}
