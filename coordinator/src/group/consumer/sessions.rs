//! Deadlines of members, and what happens when they pass.

use corelane_protocol::Str;

use super::group::ConsumerGroup;
use super::member::MemberState;
use crate::group::env::{Env, TimerKey, TimerKind};
use crate::timer::{Expired, Timer};

/// What a deadline that passed asks for.
#[derive(Debug)]
pub(crate) enum Due {
    Nothing,
    /// The member is out.
    Fence(Str),
    /// The group's regular expressions are to be matched with the topics.
    ResolveRegexes,
}

impl ConsumerGroup {
    fn key(&self, kind: TimerKind) -> TimerKey {
        TimerKey { group: self.id.clone(), incarnation: self.incarnation, kind }
    }

    /// The member was heard of: its session starts again.
    pub(super) fn start_session(&mut self, env: &mut Env<'_>, member: &Str, timeout_ms: i32) {
        let key = self.key(TimerKind::Session(member.clone()));
        let due = env.now.mono_ms.saturating_add(i64::from(timeout_ms));
        self.timers.entry(member.clone()).or_default().session.set(env.timers, due, || key);
    }

    pub(super) fn start_rebalance(&mut self, env: &mut Env<'_>, member: &Str, timeout_ms: i32, epoch: i32) {
        let key = self.key(TimerKind::Rebalance(member.clone()));
        let due = env.now.mono_ms.saturating_add(i64::from(timeout_ms));
        let timers = self.timers.entry(member.clone()).or_default();
        timers.rebalance_epoch = epoch;
        timers.rebalance.set(env.timers, due, || key);
    }

    /// The member of the classic protocol was told to rejoin: it has as long for that as it said.
    pub(super) fn await_join(&mut self, env: &mut Env<'_>, member: &Str) {
        let timeout_ms = self.subscriptions.get(member).map_or(0, |member| member.rebalance_timeout_ms);
        let key = self.key(TimerKind::MemberJoin(member.clone()));
        let due = env.now.mono_ms.saturating_add(i64::from(timeout_ms));
        let timers = self.timers.entry(member.clone()).or_default();
        if !timers.join.is_set() {
            timers.join.set(env.timers, due, || key);
        }
    }

    /// The member of the classic protocol has joined, and has to ask for its assignment in time.
    pub(super) fn classic_joined(&mut self, env: &mut Env<'_>, member: &Str, session_ms: i32, rebalance_ms: i32) {
        self.start_session(env, member, session_ms);
        let key = self.key(TimerKind::MemberSync(member.clone()));
        let due = env.now.mono_ms.saturating_add(i64::from(rebalance_ms));
        let timers = self.timers.entry(member.clone()).or_default();
        timers.join.cancel();
        timers.sync.set(env.timers, due, || key);
    }

    /// The member of the classic protocol has got its assignment.
    pub(super) fn classic_synced(&mut self, env: &mut Env<'_>, member: &Str, session_ms: i32) {
        self.start_session(env, member, session_ms);
        if let Some(timers) = self.timers.get_mut(member) {
            timers.sync.cancel();
        }
    }

    pub(super) fn schedule_regexes(&mut self, env: &mut Env<'_>) {
        let key = self.key(TimerKind::Regexes);
        self.regex_timer.set(env.timers, env.now.mono_ms, || key);
    }

    /// A deadline came up in the queue.
    pub(crate) fn timer_came_up(&mut self, env: &mut Env<'_>, expired: Expired<TimerKey>) -> Due {
        let now = env.now.mono_ms;
        match expired.key.kind.clone() {
            TimerKind::Session(member) => {
                let timer = self.timers.get_mut(&member).map(|timers| &mut timers.session);
                let fired = timer_is_due(env, timer, expired, now);
                self.fence_if(member, fired)
            }
            TimerKind::Rebalance(member) => {
                let timer = self.timers.get_mut(&member).map(|timers| &mut timers.rebalance);
                let fired = timer_is_due(env, timer, expired, now);
                let epoch = self.timers.get(&member).map(|timers| timers.rebalance_epoch);
                let still_there = epoch == Some(self.current(&member).epoch);
                self.fence_if(member, fired && still_there)
            }
            TimerKind::MemberJoin(member) => {
                let timer = self.timers.get_mut(&member).map(|timers| &mut timers.join);
                let fired = timer_is_due(env, timer, expired, now);
                self.fence_if(member, fired)
            }
            TimerKind::MemberSync(member) => {
                let timer = self.timers.get_mut(&member).map(|timers| &mut timers.sync);
                let fired = timer_is_due(env, timer, expired, now);
                self.fence_if(member, fired)
            }
            TimerKind::Regexes if self.regex_timer.fire(env.timers, expired, now) => Due::ResolveRegexes,
            _ => Due::Nothing,
        }
    }

    fn fence_if(&mut self, member: Str, out: bool) -> Due {
        if !self.has(&member) {
            // It was replaced, or never came to be.
            self.timers.remove(&member);
            return Due::Nothing;
        }
        if out { Due::Fence(member) } else { Due::Nothing }
    }

    /// Loading is complete, or a member is back that was not meant to be: sessions begin that are not under way. As in Kafka
    /// (`GroupMetadataManager.onLoaded`), also one of a member that speaks the classic protocol has the group's timeout until the
    /// member is heard of.
    pub(crate) fn start_missing_sessions(&mut self, env: &mut Env<'_>) {
        let session_ms = env.consumer_settings.of(&self.id).session_timeout_ms;
        let missing = self.subscriptions.iter().filter(|(id, _)| !self.timers.contains_key(*id));
        let members: Vec<(Str, i32)> = missing.map(|(id, of)| (id.clone(), of.rebalance_timeout_ms)).collect();
        for (id, rebalance_ms) in members {
            self.start_session(env, &id, session_ms);
            let current = self.current(&id);
            if current.state == MemberState::Revoking {
                self.start_rebalance(env, &id, rebalance_ms, current.epoch);
            }
        }
    }

    /// Puts all timers into the queue again, after the group was out of the table.
    pub(crate) fn rearm(&mut self, env: &mut Env<'_>) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        let key = |kind| TimerKey { group: id.clone(), incarnation, kind };
        for (member, timers) in &mut self.timers {
            timers.session.rearm(env.timers, || key(TimerKind::Session(member.clone())));
            timers.rebalance.rearm(env.timers, || key(TimerKind::Rebalance(member.clone())));
            timers.join.rearm(env.timers, || key(TimerKind::MemberJoin(member.clone())));
            timers.sync.rearm(env.timers, || key(TimerKind::MemberSync(member.clone())));
        }
        self.regex_timer.rearm(env.timers, || key(TimerKind::Regexes));
    }
}

fn timer_is_due(env: &mut Env<'_>, timer: Option<&mut Timer>, expired: Expired<TimerKey>, now: i64) -> bool {
    timer.is_some_and(|timer| timer.fire(env.timers, expired, now))
}
