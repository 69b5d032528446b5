//! From one generation to the next: waiting for members, electing, waiting for their syncs.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelane_protocol::messages::JoinGroupResponse;
use corelane_protocol::{ErrorCode, Str};

use super::classic::{ClassicGroup, JoinPhase};
use super::env::{Env, TimerKind};
use super::state::GroupState;
use super::writes::OnWritten;

/// How long to wait again for static members, none of which came back, even if they asked for less.
const POSTPONE_AT_LEAST_MS: i64 = 100;

impl ClassicGroup {
    /// Begins a rebalance, or if one is going on, sees whether it is complete now.
    pub(super) fn rebalance_or_complete(&mut self, env: &mut Env<'_>) {
        if self.state.leads_to(GroupState::PreparingRebalance) {
            self.prepare_rebalance(env);
        } else {
            self.complete_if_all_joined(env);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, env: &mut Env<'_>) {
        if self.is_in(GroupState::CompletingRebalance) {
            self.reset_assignments(env, ErrorCode::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.sync_timer.cancel();
        let is_initial = self.is_in(GroupState::Empty);
        self.transition(env, GroupState::PreparingRebalance);
        if is_initial {
            let delay_ms = env.config.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.start_join_timer(env, delay_ms, JoinPhase::Initial { delay_ms, remaining_ms });
        } else if self.has_all_joined() {
            self.complete_join(env);
        } else {
            self.start_join_timer(env, self.rebalance_timeout_ms(), JoinPhase::Rejoin);
        }
    }

    /// Ends the join phase early if nobody is missing; the initial delay runs to its end.
    pub(super) fn complete_if_all_joined(&mut self, env: &mut Env<'_>) {
        if self.is_in(GroupState::PreparingRebalance)
            && self.previous_state != Some(GroupState::Empty)
            && self.has_all_joined()
        {
            self.complete_join(env);
        }
    }

    fn start_join_timer(&mut self, env: &mut Env<'_>, delay_ms: i64, phase: JoinPhase) {
        self.join_phase = phase;
        let key = self.key(TimerKind::Join);
        self.join_timer.set(env.timers, env.now.mono_ms.saturating_add(delay_ms), || key);
    }

    pub(super) fn join_timer_fired(&mut self, env: &mut Env<'_>) {
        if !self.is_in(GroupState::PreparingRebalance) {
            return;
        }
        match self.join_phase {
            JoinPhase::Initial { delay_ms, remaining_ms } if self.new_member_added && remaining_ms != 0 => {
                self.new_member_added = false;
                let next = env.config.initial_rebalance_delay_ms.min(remaining_ms);
                let remaining_ms = (remaining_ms - delay_ms).max(0);
                self.start_join_timer(env, next, JoinPhase::Initial { delay_ms: next, remaining_ms });
            }
            _ => self.complete_join(env),
        }
    }

    /// Ends the join phase: whoever has not come back is out, unless it is a static member.
    pub(super) fn complete_join(&mut self, env: &mut Env<'_>) {
        self.join_timer.cancel();
        let missing = |member: &super::member::Member| member.awaiting_join.is_none() && !member.is_static();
        let missing: Vec<Str> =
            self.members.iter().filter(|(_, member)| missing(member)).map(|(id, _)| id.clone()).collect();
        for member_id in missing {
            self.remove(env, &member_id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, and none of them came back: wait on, until their sessions end.
            let pause = self.rebalance_timeout_ms().max(POSTPONE_AT_LEAST_MS);
            self.start_join_timer(env, pause, JoinPhase::Rejoin);
            return;
        }
        self.start_generation(env);
        if self.is_in(GroupState::Empty) {
            let record = self.to_record(None);
            env.write(&self.id, record.map(|record| vec![record]), OnWritten::Nothing, Vec::new());
            return;
        }
        let member_ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let response = self.current_generation(&member_id);
            self.answer_join(env, &member_id, response);
            self.restart_session(env, &member_id);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.pending_sync.insert(member_id);
        }
        let key = self.key(TimerKind::Sync);
        self.sync_timer.set(env.timers, env.now.mono_ms.saturating_add(self.rebalance_timeout_ms()), || key);
    }

    fn start_generation(&mut self, env: &Env<'_>) {
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.must_rejoin = false;
        self.protocol_name = self.select_protocol();
        self.find_subscribed_topics();
        let next = if self.members.is_empty() { GroupState::Empty } else { GroupState::CompletingRebalance };
        self.transition(env, next);
        self.pending_sync.clear();
    }

    /// What a member is told about the generation that there is; only the leader gets to know the others.
    pub(super) fn current_generation(&self, member_id: &Str) -> JoinGroupResponse {
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: if self.is_leader(member_id) { self.member_list() } else { Vec::new() },
            ..Default::default()
        }
    }

    pub(super) fn sync_timer_fired(&mut self, env: &mut Env<'_>) {
        let awaited = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        if !awaited || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.remove(env, &member_id);
        }
        self.prepare_rebalance(env);
    }

    pub(super) fn sync_arrived(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_timer.cancel();
        }
    }

    /// The members' assignments are void; those who wait for one are told why.
    pub(super) fn reset_assignments(&mut self, env: &mut Env<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(env, error);
    }

    fn answer_syncs(&mut self, env: &mut Env<'_>, error: ErrorCode) {
        let well = error == ErrorCode::None;
        let protocol_type = self.protocol_type.clone().filter(|_| well);
        let protocol_name = self.protocol_name.clone().filter(|_| well);
        let mut answered = Vec::new();
        for (member_id, member) in &mut self.members {
            if let Some(token) = member.awaiting_sync.take() {
                let assignment = member.assignment.clone();
                env.complete_assignment(token, protocol_type.clone(), protocol_name.clone(), assignment, error);
                answered.push(member_id.clone());
            }
        }
        // The session may have run out unnoticed while the member waited.
        for member_id in answered {
            self.restart_session(env, &member_id);
        }
    }

    /// The leader's assignment is stored: the generation is stable, if it still is the current one.
    pub(super) fn assignment_written(
        &mut self,
        env: &mut Env<'_>,
        generation: i32,
        mut assignments: BTreeMap<Str, Bytes>,
    ) {
        if !self.is_in(GroupState::CompletingRebalance) || self.generation != generation {
            return;
        }
        for (member_id, member) in &mut self.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
        }
        self.answer_syncs(env, ErrorCode::None);
        self.transition(env, GroupState::Stable);
    }

    pub(super) fn assignment_failed(&mut self, env: &mut Env<'_>, generation: i32, error: ErrorCode) {
        if self.is_in(GroupState::CompletingRebalance) && self.generation == generation {
            self.reset_assignments(env, error);
            self.rebalance_or_complete(env);
        }
    }

    /// Nothing was heard of the member, or of the id that was given out, for as long as its session lasts.
    pub(super) fn session_expired(&mut self, env: &mut Env<'_>, member_id: &str) {
        if self.pending_join.contains_key(member_id) {
            self.remove(env, member_id);
            if self.is_in(GroupState::PreparingRebalance) && self.has_all_joined() {
                self.complete_join(env);
            }
            return;
        }
        let Some(member) = self.members.get(member_id) else { return };
        if member.is_alive_while_waiting() {
            return;
        }
        self.remove(env, member_id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.rebalance_or_complete(env),
            GroupState::PreparingRebalance if self.has_all_joined() => self.complete_join(env),
            _ => {}
        }
    }
}
