//! A static member that comes back without its member id takes its own place under a new one.

use corelane_protocol::messages::JoinGroupResponse;
use corelane_protocol::{ErrorCode, Str};

use super::classic::ClassicGroup;
use super::env::{Env, JoinWaiter};
use super::join::Joining;
use super::member::{Protocol, protocols_of};
use super::outcome::Reply;
use super::reject;
use super::state::GroupState;
use super::writes::OnWritten;

/// The first version in which the leader can be told that there is nothing to assign.
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// A replacement being stored, and what it takes to undo it.
#[derive(Debug)]
pub(crate) struct StaticReplacement {
    incarnation: u64,
    generation: i32,
    instance_id: Str,
    old_id: Str,
    new_id: Str,
    old_protocols: Vec<Protocol>,
    old_rebalance_timeout_ms: i32,
    old_session_timeout_ms: i32,
    leader_before: Option<Str>,
    waiter: JoinWaiter,
}

impl ClassicGroup {
    pub(super) fn join_in_place_of(
        &mut self,
        env: &mut Env<'_>,
        joining: &Joining<'_>,
        instance_id: Str,
        old_id: Str,
        new_id: Str,
    ) -> Reply<JoinGroupResponse> {
        let request = joining.request;
        let leader_before = self.leader.clone();
        self.replace_static_member(env, &instance_id, &old_id, &new_id);
        self.restart_session(env, &new_id);
        let Some(member) = self.members.get(&new_id) else {
            return Reply::Now(reject::join_body("", ErrorCode::UnknownMemberId));
        };
        let replacement = StaticReplacement {
            incarnation: self.incarnation,
            generation: self.generation,
            instance_id,
            old_id,
            new_id: new_id.clone(),
            old_protocols: member.protocols.clone(),
            old_rebalance_timeout_ms: member.rebalance_timeout_ms,
            old_session_timeout_ms: member.session_timeout_ms,
            leader_before,
            waiter: joining.waiter,
        };
        self.update_member(
            env,
            &new_id,
            protocols_of(request),
            joining.rebalance_timeout_ms,
            request.session_timeout_ms,
            Some(joining.waiter),
        );
        match self.state {
            // Nothing changes for the others, but the new id must be stored before it may be used.
            GroupState::Stable if self.select_protocol() == self.protocol_name => {
                let record = self.to_record(None);
                let on_written = OnWritten::StaticMember(Box::new(replacement));
                env.write(&self.id, record.map(|record| vec![record]), on_written, Vec::new());
            }
            GroupState::Stable => self.rebalance_or_complete(env),
            // The leader may be assigning to the old id just now.
            GroupState::CompletingRebalance => self.prepare_rebalance(env),
            GroupState::PreparingRebalance | GroupState::Empty => self.complete_if_all_joined(env),
        }
        joining.wait()
    }

    /// Whether the join is still the one that waits for its replacement to be stored, and for nothing else.
    fn still_waits(&self, replacement: &StaticReplacement) -> bool {
        self.incarnation == replacement.incarnation
            && self.members.get(&replacement.new_id).is_some_and(|member| {
                member.awaiting_join.is_some_and(|waiter| waiter.token == replacement.waiter.token)
            })
    }

    pub(super) fn static_member_written(&mut self, env: &mut Env<'_>, replacement: StaticReplacement) {
        // If a rebalance began meanwhile, the join is part of it and is answered when it is complete.
        if !self.still_waits(&replacement)
            || !self.is_in(GroupState::Stable)
            || self.generation != replacement.generation
        {
            return;
        }
        let member_id = &replacement.new_id;
        let mut response = self.current_generation(member_id);
        if replacement.waiter.api_version >= SKIP_ASSIGNMENT_FROM {
            response.skip_assignment = self.is_leader(member_id);
        } else {
            // Older clients would assign if they saw themselves lead: they are told of the leader under its old id.
            response.members = Vec::new();
            response.leader = replacement.leader_before.unwrap_or_default();
        }
        self.answer_join(env, member_id, response);
        // The session may have run out unnoticed while the write took its time.
        self.restart_session(env, member_id);
    }

    pub(super) fn static_member_failed(&mut self, env: &mut Env<'_>, replacement: StaticReplacement, error: ErrorCode) {
        if !self.still_waits(&replacement) {
            return;
        }
        let StaticReplacement { instance_id, old_id, new_id, leader_before, .. } = replacement;
        let response = JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: leader_before.unwrap_or_default(),
            ..reject::join_body("", error)
        };
        self.answer_join(env, &new_id, response);
        self.update_member(
            env,
            &new_id,
            replacement.old_protocols,
            replacement.old_rebalance_timeout_ms,
            replacement.old_session_timeout_ms,
            None,
        );
        self.replace_static_member(env, &instance_id, &new_id, &old_id);
        self.restart_session(env, &old_id);
    }
}
