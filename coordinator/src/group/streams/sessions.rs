//! Deadlines of a streams group and its members.

use corelane_protocol::Str;

use super::changed::Changed;
use super::group::StreamsGroup;
use crate::group::env::{Env, TimerKey, TimerKind};
use crate::timer::Expired;

impl StreamsGroup {
    fn key(&self, kind: TimerKind) -> TimerKey {
        TimerKey { group: self.id.clone(), incarnation: self.incarnation, kind }
    }

    /// The member was heard of: its session starts again.
    pub(super) fn start_session(&mut self, env: &mut Env<'_>, member_id: &Str, timeout_ms: i32) {
        let key = self.key(TimerKind::Session(member_id.clone()));
        if let Some(member) = self.members.get_mut(member_id) {
            member.session.set(env.timers, env.now.mono_ms.saturating_add(i64::from(timeout_ms)), || key);
        }
    }

    /// A member that has to give up tasks may take as long for it as it said.
    pub(super) fn follow_revocation(&mut self, env: &mut Env<'_>, member_id: &Str, timeout_ms: i32) {
        let key = self.key(TimerKind::Rebalance(member_id.clone()));
        let is_revoking = self.is_revoking(member_id);
        if let Some(member) = self.members.get_mut(member_id) {
            match is_revoking {
                true => {
                    member.revocation.set(env.timers, env.now.mono_ms.saturating_add(i64::from(timeout_ms)), || key)
                }
                false => member.revocation.cancel(),
            }
        }
    }

    pub(super) fn start_initial_delay(&mut self, env: &mut Env<'_>, delay_ms: i32) {
        let key = self.key(TimerKind::Join);
        self.initial_delay.set(env.timers, env.now.mono_ms.saturating_add(i64::from(delay_ms)), || key);
    }

    /// A deadline came up in the queue: whoever was not heard of, or holds on to tasks, is out; and when the time to wait for
    /// more members is over, tasks are given to those who came.
    pub(crate) fn timer_came_up(&mut self, env: &mut Env<'_>, expired: Expired<TimerKey>) {
        let now = env.now.mono_ms;
        let changes = match expired.key.kind.clone() {
            TimerKind::Session(id) => {
                let session = self.members.get_mut(&id).map(|member| &mut member.session);
                let is_over = session.is_some_and(|timer| timer.fire(env.timers, expired, now));
                if is_over { self.removal_of(&id) } else { Vec::new() }
            }
            TimerKind::Rebalance(id) => {
                let revocation = self.members.get_mut(&id).map(|member| &mut member.revocation);
                let is_over = revocation.is_some_and(|timer| timer.fire(env.timers, expired, now));
                if is_over && self.is_revoking(&id) { self.removal_of(&id) } else { Vec::new() }
            }
            TimerKind::Join if self.initial_delay.fire(env.timers, expired, now) => self.delay_is_over(env.now),
            _ => Vec::new(),
        };
        let mut changed = Changed::default();
        changed.make(self, changes);
        changed.write(env, &self.id);
    }

    /// Loading is complete, or a member is back that was not meant to be: sessions begin that are not under way.
    pub(crate) fn start_missing_sessions(&mut self, env: &mut Env<'_>) {
        let timeout_ms = env.config.streams.session_timeout_ms;
        let members: Vec<(Str, i32)> =
            self.members.iter().map(|(id, member)| (id.clone(), member.metadata.rebalance_timeout_ms)).collect();
        for (id, rebalance_timeout_ms) in members {
            if self.members.get(&id).is_some_and(|member| !member.session.is_set()) {
                self.start_session(env, &id, timeout_ms);
            }
            if self.members.get(&id).is_some_and(|member| !member.revocation.is_set()) {
                self.follow_revocation(env, &id, rebalance_timeout_ms);
            }
        }
    }

    /// Puts all timers into the queue again, after the group was out of the table.
    pub(crate) fn rearm(&mut self, env: &mut Env<'_>) {
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        let key = |kind| TimerKey { group: id.clone(), incarnation, kind };
        for (member_id, member) in &mut self.members {
            member.session.rearm(env.timers, || key(TimerKind::Session(member_id.clone())));
            member.revocation.rearm(env.timers, || key(TimerKind::Rebalance(member_id.clone())));
        }
        self.initial_delay.rearm(env.timers, || key(TimerKind::Join));
    }
}
