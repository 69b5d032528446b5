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

    /// Loading is complete, or a member is back that was not meant to be: sessions begin that are not under way.
    pub(crate) fn start_missing_sessions(&mut self, env: &mut Env<'_>) {
        let members: Vec<(Str, i32, i32)> = self
            .subscriptions
            .iter()
            .filter(|(id, _)| !self.timers.contains_key(*id))
            .map(|(id, subscription)| {
                let session = subscription.classic.as_ref().map(|classic| classic.session_timeout_ms);
                let session = session.unwrap_or_else(|| env.consumer_settings.of(&self.id).session_timeout_ms);
                (id.clone(), session, subscription.rebalance_timeout_ms)
            })
            .collect();
        for (id, session_ms, rebalance_ms) in members {
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
        }
        self.regex_timer.rearm(env.timers, || key(TimerKind::Regexes));
    }
}

fn timer_is_due(env: &mut Env<'_>, timer: Option<&mut Timer>, expired: Expired<TimerKey>, now: i64) -> bool {
    timer.is_some_and(|timer| timer.fire(env.timers, expired, now))
}
