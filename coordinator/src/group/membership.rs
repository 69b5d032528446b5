//! Who is in a group: adding, changing and removing members, and whose answers wait.

use std::mem;

use corelane_protocol::messages::JoinGroupResponse;
use corelane_protocol::{ErrorCode, Str};

use super::classic::ClassicGroup;
use super::env::{Env, JoinWaiter};
use super::member::{Member, Protocol};
use super::reject;

impl ClassicGroup {
    /// Adds a member; the first one gives the group its protocol type and leads it.
    pub(super) fn add(&mut self, member_id: Str, member: Member, protocol_type: Option<Str>) {
        if self.members.is_empty() {
            self.protocol_type = protocol_type;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.count_protocols(&member.protocols);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.pending_join.remove(&member_id);
        self.members.insert(member_id, member);
    }

    /// Removes a member, or an id that was only given out. Whoever waits for it is told that it is unknown.
    pub(super) fn remove(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        let Some(mut member) = self.members.remove(member_id) else { return };
        self.discount_protocols(&member.protocols);
        if let Some(waiter) = member.awaiting_join.take() {
            self.awaiting_join -= 1;
            env.complete_join(waiter, reject::join_body("", ErrorCode::UnknownMemberId));
        }
        if let Some(token) = member.awaiting_sync.take() {
            env.complete_sync(token, ErrorCode::UnknownMemberId);
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Takes over what a member says when it joins again, and who waits for the answer.
    pub(super) fn update_member(
        &mut self,
        env: &mut Env<'_>,
        member_id: &Str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
        waiter: Option<JoinWaiter>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let superseded = mem::replace(&mut member.awaiting_join, waiter);
        let before = mem::replace(&mut member.protocols, protocols.clone());
        self.discount_protocols(&before);
        self.count_protocols(&protocols);
        self.awaiting_join += usize::from(waiter.is_some());
        self.awaiting_join -= usize::from(superseded.is_some());
        if let Some(superseded) = superseded {
            // The member asked again and takes only the newer answer; the older one tells it to.
            env.complete_join(superseded, reject::join_body(member_id, ErrorCode::RebalanceInProgress));
        }
    }

    pub(super) fn answer_join(&mut self, env: &mut Env<'_>, member_id: &str, response: JoinGroupResponse) {
        if let Some(waiter) = self.members.get_mut(member_id).and_then(|member| member.awaiting_join.take()) {
            self.awaiting_join -= 1;
            env.complete_join(waiter, response);
        }
    }

    /// Gives a static member's place to a new member id. Who waits under the old id is fenced.
    pub(super) fn replace_static_member(&mut self, env: &mut Env<'_>, instance_id: &Str, old_id: &str, new_id: &Str) {
        let fenced = reject::join_body(old_id, ErrorCode::FencedInstanceId);
        self.answer_join(env, old_id, fenced);
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(token) = member.awaiting_sync.take() {
            env.complete_sync(token, ErrorCode::FencedInstanceId);
        }
        member.is_new = false;
        member.session = Default::default();
        self.members.insert(new_id.clone(), member);
        self.static_members.insert(instance_id.clone(), new_id.clone());
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
    }

    pub(super) fn has_all_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_join.is_empty()
    }

    /// Makes sure that the leader is one of those who rejoined. False if nobody did.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.awaiting_join.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).is_some_and(joined) {
            return true;
        }
        match self.members.iter().find(|(_, member)| joined(member)) {
            Some((id, _)) => {
                self.leader = Some(id.clone());
                true
            }
            None => false,
        }
    }

    /// Whether one more member may wait for the next generation, or be in this one.
    pub(super) fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        use super::state::GroupState::*;
        let member = self.members.get(member_id);
        match self.state {
            Empty => true,
            // Those who wait are counted: the group may be larger than allowed (the limit was lowered), and the last to
            // rejoin are then turned away.
            PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join < max_size
            }
            CompletingRebalance | Stable => member.is_some() || self.members.len() < max_size,
        }
    }

    /// Answers everyone who waits with an error: the group is gone, or goes to another coordinator.
    pub(crate) fn answer_all(&mut self, env: &mut Env<'_>, error: ErrorCode) {
        for (id, member) in &mut self.members {
            if let Some(waiter) = member.awaiting_join.take() {
                env.complete_join(waiter, reject::join_body(id, error));
            }
            if let Some(token) = member.awaiting_sync.take() {
                env.complete_sync(token, error);
            }
        }
        self.awaiting_join = 0;
    }
}
