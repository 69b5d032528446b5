//! A classic group: its members and the progress of their rebalance.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::messages::JoinGroupResponseMember;
use corelane_protocol::{ErrorCode, Str};

use super::env::{Env, TimerKey, TimerKind};
use super::member::Member;
use super::state::GroupState;
use crate::timer::{Expired, Timer};

/// What the join timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum JoinPhase {
    /// The first rebalance of an empty group waits a while for more members, and a while longer if there were some.
    Initial { delay_ms: i64, remaining_ms: i64 },
    /// Members of the last generation have this long to come back.
    Rejoin,
}

/// One classic group. What holds between calls:
///
/// - `members` is empty exactly in `Empty`, or while a rebalance that nobody joined waits for its timer;
/// - there is a leader exactly if there are members, and it is one of them;
/// - `static_members` maps each instance id of a member to that member;
/// - `awaiting_join` counts the members with an answer to a join outstanding;
/// - answers to joins wait in `PreparingRebalance` only, but for a static member's that is being stored;
/// - answers to syncs wait in `CompletingRebalance` only.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    pub(crate) id: Str,
    /// Tells groups of one id apart: what was begun for one must not end in another.
    pub(crate) incarnation: u64,
    pub(super) state: GroupState,
    pub(super) previous_state: Option<GroupState>,
    /// When it got into its state (wall clock), if that is known.
    pub(super) state_since_ms: Option<i64>,
    pub(super) protocol_type: Option<Str>,
    pub(super) protocol_name: Option<Str>,
    pub(super) generation: i32,
    pub(super) leader: Option<Str>,
    /// What the members have is not all that there is to assign: until there is another generation they are to rejoin, also
    /// after a restart. Stored as a generation without a leader.
    pub(super) must_rejoin: bool,
    pub(super) members: BTreeMap<Str, Member>,
    pub(super) static_members: BTreeMap<Str, Str>,
    /// Ids that were given out to members that have not joined with them yet.
    pub(super) pending_join: BTreeMap<Str, Timer>,
    /// Members of this generation that have not asked for their assignment yet.
    pub(super) pending_sync: BTreeSet<Str>,
    pub(super) awaiting_join: usize,
    /// How many members offer each protocol.
    pub(super) supported_protocols: BTreeMap<Str, usize>,
    /// Topics of all subscriptions; `None` if they are not known.
    pub(super) subscribed_topics: Option<BTreeSet<Str>>,
    /// Someone joined since the initial delay began.
    pub(super) new_member_added: bool,
    pub(super) join_phase: JoinPhase,
    pub(super) join_timer: Timer,
    pub(super) sync_timer: Timer,
}

impl ClassicGroup {
    pub(crate) fn new(id: Str, incarnation: u64, wall_ms: i64) -> ClassicGroup {
        ClassicGroup {
            id,
            incarnation,
            state: GroupState::Empty,
            previous_state: None,
            state_since_ms: Some(wall_ms),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            must_rejoin: false,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            awaiting_join: 0,
            supported_protocols: BTreeMap::new(),
            subscribed_topics: None,
            new_member_added: false,
            join_phase: JoinPhase::Rejoin,
            join_timer: Timer::default(),
            sync_timer: Timer::default(),
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn is_in(&self, state: GroupState) -> bool {
        self.state == state
    }

    pub(super) fn transition(&mut self, env: &Env<'_>, next: GroupState) {
        debug_assert!(self.state.leads_to(next), "{:?} to {next:?}", self.state);
        self.previous_state = Some(self.state);
        self.state = next;
        self.state_since_ms = Some(env.now.wall_ms);
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader == member_id)
    }

    /// Whether the request's member is the one that it says it is.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// The longest time that a member asks for to rejoin.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// What the leader gets to know of the members.
    pub(super) fn member_list(&self) -> Vec<JoinGroupResponseMember> {
        let describe = |(id, member): (&Str, &Member)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol_name.as_deref()),
            ..Default::default()
        };
        self.members.iter().map(describe).collect()
    }

    /// The member was heard of: its session starts again.
    pub(super) fn restart_session(&mut self, env: &mut Env<'_>, member_id: &Str) {
        let timeout = self.members.get(member_id).map_or(0, |member| i64::from(member.session_timeout_ms));
        self.start_session(env, member_id, timeout);
    }

    pub(super) fn start_session(&mut self, env: &mut Env<'_>, member_id: &Str, timeout_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            let key = || TimerKey {
                group: self.id.clone(),
                incarnation: self.incarnation,
                kind: TimerKind::Session(member_id.detach()),
            };
            member.session.set(env.timers, env.now.mono_ms.saturating_add(timeout_ms), key);
        }
    }

    pub(super) fn key(&self, kind: TimerKind) -> TimerKey {
        TimerKey { group: self.id.clone(), incarnation: self.incarnation, kind }
    }

    pub(crate) fn timer_came_up(&mut self, env: &mut Env<'_>, expired: Expired<TimerKey>) {
        let now = env.now.mono_ms;
        match expired.key.kind.clone() {
            TimerKind::Join => {
                if self.join_timer.fire(env.timers, expired, now) {
                    self.join_timer_fired(env);
                }
            }
            TimerKind::Sync => {
                if self.sync_timer.fire(env.timers, expired, now) {
                    self.sync_timer_fired(env);
                }
            }
            TimerKind::Session(member_id) => {
                let pending = self.pending_join.get_mut(&member_id);
                let session = pending.or_else(|| self.members.get_mut(&member_id).map(|m| &mut m.session));
                if session.is_some_and(|timer| timer.fire(env.timers, expired, now)) {
                    self.session_expired(env, &member_id);
                }
            }
            TimerKind::Rebalance(_) | TimerKind::MemberJoin(_) | TimerKind::MemberSync(_) | TimerKind::Regexes => {}
        }
    }

    /// Puts all timers into the queue again, after the group was out of the table.
    pub(crate) fn rearm(&mut self, env: &mut Env<'_>) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        let key = |kind| TimerKey { group: id.clone(), incarnation, kind };
        for (member_id, timer) in &mut self.pending_join {
            timer.rearm(env.timers, || key(TimerKind::Session(member_id.clone())));
        }
        for (member_id, member) in &mut self.members {
            member.session.rearm(env.timers, || key(TimerKind::Session(member_id.clone())));
        }
        self.join_timer.rearm(env.timers, || key(TimerKind::Join));
        self.sync_timer.rearm(env.timers, || key(TimerKind::Sync));
    }
}
