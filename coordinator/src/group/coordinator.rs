//! The machine itself.

use std::rc::Rc;

use corelane_protocol::Str;

use super::GroupConfig;
use super::classic::ClassicGroup;
use super::config::{ConsumerGroupSettings, ConsumerSettings};
use super::consumer::group::ConsumerGroupState;
use super::env::{Env, TimerKey};
use super::modern::topics::{Catalog, Topics};
use super::offset_store::OffsetStore;
use super::outcome::{Effects, WaitToken};
use super::pending_offsets::PendingOffsets;
use super::retention::Sweep;
use super::share::{ShareGroupSettings, ShareSettings};
use super::state::GroupState;
use super::streams::group::StreamsGroupState;
use super::table::{Group, GroupTable};
use super::writes::WriteLog;
use crate::Now;
use crate::timer::TimerQueue;

/// The consumer groups of one partition of `__consumer_offsets`.
///
/// To start: `replay` every record of the partition in order, then `finish_loading`. After every call write its writes, hand
/// out its completed answers, and call `tick` at `next_deadline` at the latest.
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(super) config: GroupConfig,
    pub(super) groups: GroupTable,
    pub(super) offsets: OffsetStore,
    pub(super) pending: PendingOffsets,
    pub(super) timers: TimerQueue<TimerKey>,
    pub(super) writes: WriteLog,
    pub(super) sweep: Sweep,
    pub(super) catalog: Catalog,
    consumer_settings: Rc<dyn ConsumerSettings>,
    share_settings: Rc<dyn ShareSettings>,
    next_token: u64,
    next_incarnation: u64,
    next_order: u64,
}

/// How much there is of everything, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    pub empty: usize,
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub not_ready: usize,
    pub assigning: usize,
    pub reconciling: usize,
    pub stable: usize,
    pub members: usize,
    pub offsets: usize,
    pub writes_under_way: usize,
}

impl GroupCoordinator {
    pub fn new(config: GroupConfig) -> GroupCoordinator {
        GroupCoordinator {
            config,
            groups: GroupTable::default(),
            offsets: OffsetStore::default(),
            pending: PendingOffsets::default(),
            timers: TimerQueue::new(),
            writes: WriteLog::default(),
            sweep: Sweep::default(),
            catalog: Catalog::default(),
            consumer_settings: Rc::new(ConsumerGroupSettings::default()),
            share_settings: Rc::new(ShareGroupSettings::default()),
            next_token: 0,
            next_incarnation: 0,
            next_order: 0,
        }
    }

    /// What is in force for consumer groups; asked whenever it matters.
    pub fn set_consumer_settings(&mut self, settings: Rc<dyn ConsumerSettings>) {
        self.consumer_settings = settings;
    }

    /// What is in force for share groups; asked whenever it matters.
    pub fn set_share_settings(&mut self, settings: Rc<dyn ShareSettings>) {
        self.share_settings = settings;
    }

    /// Takes over a new version of the cluster's topics, in which those of these names were created, changed or deleted. Members
    /// hear of it at their heartbeats.
    pub fn set_topics(&mut self, topics: Rc<dyn Topics>, changed: &[Str]) {
        self.catalog.replace(topics, changed);
        for group in self.groups.values_mut() {
            match group {
                Group::Share(group) => group.topics_changed(changed),
                Group::Consumer(group) => group.topics_changed(changed),
                // They look at their topics at each heartbeat.
                Group::Streams(_) => {}
                Group::Classic(_) => {}
            }
        }
    }

    /// When `tick` has to be called at the latest, on the monotonic clock. Nothing may be due then yet.
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next().into_iter().chain(self.sweep.next_ms).min()
    }

    /// Does what is due: sessions that ran out, rebalances that waited long enough, expired offsets.
    pub fn tick(&mut self, now: Now) -> Effects {
        let mut out = Effects::default();
        while let Some(expired) = self.timers.pop(now.mono_ms) {
            let (groups, mut env) = self.parts(now, &mut out);
            let TimerKey { group: id, incarnation, .. } = &expired.key;
            match groups.get_mut(id).filter(|group| group.incarnation() == *incarnation) {
                Some(Group::Classic(group)) => group.timer_came_up(&mut env, expired),
                Some(Group::Consumer(group)) => {
                    let (id, due) = (group.id.clone(), group.timer_came_up(&mut env, expired));
                    self.consumer_group_due(now, &id, due, &mut out);
                }
                Some(Group::Share(group)) => group.timer_came_up(&mut env, expired),
                Some(Group::Streams(group)) => group.timer_came_up(&mut env, expired),
                None => {}
            }
        }
        self.sweep(now, &mut out);
        self.settle(now, &mut out);
        out
    }

    pub fn counts(&self) -> GroupCounts {
        let mut counts =
            GroupCounts { offsets: self.offsets.len(), writes_under_way: self.writes.len(), ..Default::default() };
        for group in self.groups.values() {
            counts.members += group.members();
            *match group {
                Group::Classic(group) => match group.state() {
                    GroupState::Empty => &mut counts.empty,
                    GroupState::PreparingRebalance => &mut counts.preparing_rebalance,
                    GroupState::CompletingRebalance => &mut counts.completing_rebalance,
                    GroupState::Stable => &mut counts.stable,
                },
                Group::Share(group) => match group.is_empty() {
                    true => &mut counts.empty,
                    false => &mut counts.stable,
                },
                Group::Consumer(group) => match group.state() {
                    ConsumerGroupState::Empty => &mut counts.empty,
                    ConsumerGroupState::Assigning => &mut counts.assigning,
                    ConsumerGroupState::Reconciling => &mut counts.reconciling,
                    ConsumerGroupState::Stable => &mut counts.stable,
                },
                Group::Streams(group) => match group.state() {
                    StreamsGroupState::Empty => &mut counts.empty,
                    StreamsGroupState::NotReady => &mut counts.not_ready,
                    StreamsGroupState::Assigning => &mut counts.assigning,
                    StreamsGroupState::Reconciling => &mut counts.reconciling,
                    StreamsGroupState::Stable => &mut counts.stable,
                },
            } += 1;
        }
        counts
    }

    pub(super) fn next_token(&mut self) -> WaitToken {
        self.next_token += 1;
        WaitToken(self.next_token)
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    pub(super) fn next_incarnation(&mut self) -> u64 {
        self.next_incarnation += 1;
        self.next_incarnation
    }

    pub(super) fn new_group(&mut self, now: Now, group_id: Str) -> ClassicGroup {
        ClassicGroup::new(group_id, self.next_incarnation(), now.wall_ms)
    }

    /// The groups, and apart from them what a group needs.
    pub(super) fn parts<'a>(&'a mut self, now: Now, out: &'a mut Effects) -> (&'a mut GroupTable, Env<'a>) {
        let env = Env {
            now,
            config: &self.config,
            consumer_settings: &*self.consumer_settings,
            share_settings: &*self.share_settings,
            catalog: &mut self.catalog,
            timers: &mut self.timers,
            writes: &mut self.writes,
            out,
        };
        (&mut self.groups, env)
    }
}
