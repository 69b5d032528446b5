//! One share group.

use std::rc::Rc;

use corelane_protocol::{EncodeError, ErrorCode, Str};
use hashbrown::HashMap;

use super::record::ShareRecord;
use super::state::ShareState;
use crate::CoordinatorRecord;
use crate::group::env::{Env, TimerKey, TimerKind};
use crate::group::modern::topics::Catalog;
use crate::group::outcome::WriteId;
use crate::group::writes::{OnWritten, Undo};
use crate::timer::{Expired, Timer};

#[derive(Debug)]
pub(crate) struct ShareGroup {
    pub(crate) id: Str,
    pub(crate) incarnation: u64,
    /// Nothing of it is stored yet, nor being written.
    pub(super) is_new: bool,
    /// What is stored. Writes under way hold what was before them.
    pub(super) state: Rc<ShareState>,
    /// By member id.
    sessions: HashMap<Str, Timer>,
    /// The group's epoch when its topics were last looked at; `None` once they may have changed.
    pub(super) refreshed: Option<i32>,
    /// The state in which no partition was found that is initialised and not assigned.
    pub(super) all_assigned: Option<Rc<ShareState>>,
}

impl ShareGroup {
    pub(crate) fn new(id: Str, incarnation: u64) -> ShareGroup {
        ShareGroup {
            id,
            incarnation,
            is_new: true,
            state: Rc::default(),
            sessions: HashMap::new(),
            refreshed: None,
            all_assigned: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.members.is_empty()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.state.members.len()
    }

    pub(crate) fn state_name(&self) -> &'static str {
        if self.is_empty() { "Empty" } else { "Stable" }
    }

    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.state.subscribed.contains_key(topic)
    }

    pub(crate) fn replay(&mut self, now_ms: i64, record: &ShareRecord) {
        self.is_new = false;
        Rc::make_mut(&mut self.state).apply(now_ms, record);
    }

    /// Changes the group by these records and writes them.
    pub(super) fn write(&mut self, env: &mut Env<'_>, records: Vec<ShareRecord>, on_written: OnWritten) -> WriteId {
        let group = self.id.clone();
        let undo = if self.is_new {
            Undo::CreatedGroup { group: group.clone(), incarnation: self.incarnation }
        } else {
            let state = self.state.clone();
            Undo::ShareGroup { group: group.clone(), incarnation: self.incarnation, state }
        };
        self.is_new = false;
        let state = Rc::make_mut(&mut self.state);
        records.iter().for_each(|record| state.apply(env.now.wall_ms, record));
        let encoded = records.iter().map(|record| record.encode(&group)).collect();
        env.write(&group, encoded, on_written, vec![undo])
    }

    /// A write was taken back.
    pub(crate) fn restore(&mut self, env: &mut Env<'_>, state: Rc<ShareState>) {
        self.state = state;
        // Members that are back have no session.
        self.loaded(env);
    }

    /// What removes the group, which has no members.
    pub(crate) fn tombstones(&self) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        let records = [ShareRecord::TargetEpoch(None), ShareRecord::Initializations(None), ShareRecord::Epoch(None)];
        records.iter().map(|record| record.encode(&self.id)).collect()
    }

    /// The hash of the topics that members other than `without` subscribe to.
    pub(super) fn hash_without(&self, catalog: &mut Catalog, without: &str) -> i64 {
        let topics = self.state.members.get(without).map(|member| &member.topics);
        let is_left =
            |(name, count): &(&Str, &usize)| **count > 1 || topics.is_none_or(|topics| !topics.contains(*name));
        catalog.group_hash(self.state.subscribed.iter().filter(is_left).map(|(name, _)| name))
    }

    pub(super) fn start_session(&mut self, env: &mut Env<'_>, member_id: &Str) {
        let timeout = i64::from(env.share_settings.of(&self.id).session_timeout_ms);
        let due = env.now.mono_ms.saturating_add(timeout);
        let timer = self.sessions.entry(member_id.clone()).or_default();
        timer.set(env.timers, due, || session_key(&self.id, self.incarnation, member_id));
    }

    pub(super) fn end_session(&mut self, member_id: &str) {
        self.sessions.remove(member_id);
    }

    /// A session may have run out: its member is out of the group.
    pub(crate) fn timer_came_up(&mut self, env: &mut Env<'_>, expired: Expired<TimerKey>) {
        let TimerKind::Session(member_id) = expired.key.kind.clone() else { return };
        let Some(timer) = self.sessions.get_mut(&member_id) else { return };
        if timer.fire(env.timers, expired, env.now.mono_ms) && self.state.members.contains_key(&member_id) {
            self.fence(env, &member_id);
        }
    }

    /// Members that have no session get a whole one.
    pub(crate) fn loaded(&mut self, env: &mut Env<'_>) {
        let members: Vec<Str> = self.state.members.keys().cloned().collect();
        for member_id in members {
            if !self.sessions.contains_key(&member_id) {
                self.start_session(env, &member_id);
            }
        }
    }

    pub(crate) fn rearm(&mut self, env: &mut Env<'_>) {
        for (member_id, timer) in &mut self.sessions {
            timer.rearm(env.timers, || session_key(&self.id, self.incarnation, member_id));
        }
    }

    /// Topics were created, changed or deleted: the next heartbeat looks at them.
    pub(crate) fn topics_changed(&mut self, names: &[Str]) {
        if names.iter().any(|name| self.is_subscribed_to(name)) {
            self.refreshed = None;
        }
    }

    pub(crate) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        Err(ErrorCode::GroupIdNotFound)
    }
}

fn session_key(group: &Str, incarnation: u64, member_id: &Str) -> TimerKey {
    TimerKey { group: group.clone(), incarnation, kind: TimerKind::Session(member_id.clone()) }
}
