//! A consumer group: what its log says, and what follows from that.

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane_protocol::{Str, Uuid};
use hashbrown::HashMap;

use super::change::{Change, GroupEpoch, Resolved, TargetEpoch};
use super::member::{Current, Subscription};
use crate::group::modern::member_timers::MemberTimers;
use crate::group::modern::partitions::{Owned, Partitions};
use crate::timer::Timer;

/// Epochs of a group before anybody joined.
const FIRST_EPOCH: i32 = 1;

/// State of a consumer group. Kafka's `Dead` is left out: a group that ended is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConsumerGroupState {
    Empty,
    /// The target assignment is older than the group's epoch.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    Stable,
}

impl ConsumerGroupState {
    pub fn name(self) -> &'static str {
        match self {
            ConsumerGroupState::Empty => "Empty",
            ConsumerGroupState::Assigning => "Assigning",
            ConsumerGroupState::Reconciling => "Reconciling",
            ConsumerGroupState::Stable => "Stable",
        }
    }
}

/// How many members name a topic, and how many regular expressions match it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Readers {
    pub(super) by_name: usize,
    pub(super) by_regex: usize,
}

/// One consumer group. All that is stored changes by [`ConsumerGroup::apply`] alone: while serving, while loading, and when
/// a change is taken back. What holds between calls:
///
/// - a partition has one owner at most: it is in one member's `assigned` or `revoking`;
/// - the epoch of the target, and of every member, is not above the group's.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) id: Str,
    /// Tells groups of one id apart: what was begun for one must not end in another.
    pub(crate) incarnation: u64,
    pub(super) epoch: GroupEpoch,
    pub(super) target_epoch: TargetEpoch,
    pub(super) has_old_topics: bool,
    /// The members.
    pub(super) subscriptions: BTreeMap<Str, Arc<Subscription>>,
    pub(super) currents: BTreeMap<Str, Arc<Current>>,
    pub(super) targets: BTreeMap<Str, Arc<Partitions>>,
    pub(super) resolved: BTreeMap<Str, Arc<Resolved>>,

    // What follows from the above.
    pub(super) static_members: BTreeMap<Str, Str>,
    pub(super) owners: HashMap<(Uuid, i32), Str>,
    pub(super) readers: BTreeMap<Str, Readers>,
    /// How many members have each regular expression.
    pub(super) regexes: BTreeMap<Str, usize>,
    pub(super) assignors: BTreeMap<Str, usize>,
    pub(super) classic_members: usize,
    pub(super) classic_protocols: BTreeMap<Str, usize>,

    // What is in memory only.
    pub(super) timers: BTreeMap<Str, MemberTimers>,
    /// The group's epoch in which its topics were looked at; nothing if they have changed since.
    pub(super) topics_seen: Option<i32>,
    pub(super) regex_timer: Timer,
    /// How often topics had been created when the regular expressions were resolved.
    pub(super) creations_seen: Option<u64>,
}

impl ConsumerGroup {
    pub(crate) fn new(id: Str, incarnation: u64) -> ConsumerGroup {
        ConsumerGroup {
            id,
            incarnation,
            epoch: GroupEpoch { epoch: FIRST_EPOCH, topics_hash: 0 },
            target_epoch: TargetEpoch { epoch: FIRST_EPOCH, made_at_ms: 0 },
            has_old_topics: false,
            subscriptions: BTreeMap::new(),
            currents: BTreeMap::new(),
            targets: BTreeMap::new(),
            resolved: BTreeMap::new(),
            static_members: BTreeMap::new(),
            owners: HashMap::new(),
            readers: BTreeMap::new(),
            regexes: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_members: 0,
            classic_protocols: BTreeMap::new(),
            timers: BTreeMap::new(),
            topics_seen: None,
            regex_timer: Timer::default(),
            creations_seen: None,
        }
    }

    pub(crate) fn state(&self) -> ConsumerGroupState {
        if self.subscriptions.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch.epoch > self.target_epoch.epoch {
            ConsumerGroupState::Assigning
        } else if self.subscriptions.keys().all(|id| self.is_reconciled(id)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    fn is_reconciled(&self, member: &str) -> bool {
        self.currents.get(member).is_some_and(|current| current.is_reconciled_to(self.target_epoch.epoch))
    }

    pub(crate) fn members(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.readers.contains_key(topic)
    }

    pub(super) fn has(&self, member: &str) -> bool {
        self.subscriptions.contains_key(member)
    }

    pub(super) fn current(&self, member: &str) -> Arc<Current> {
        self.currents.get(member).cloned().unwrap_or_default()
    }

    pub(super) fn target(&self, member: &str) -> Arc<Partitions> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// The next heartbeat is to look at the topics again if they are read here.
    pub(crate) fn topics_changed(&mut self, names: &[Str]) {
        if names.iter().any(|name| self.readers.contains_key(name)) {
            self.topics_seen = None;
        }
    }

    /// Makes a change; gives the one that takes it back.
    pub(crate) fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::Epoch(value) => {
                let value = value.unwrap_or(GroupEpoch { epoch: FIRST_EPOCH, topics_hash: 0 });
                Change::Epoch(Some(std::mem::replace(&mut self.epoch, value)))
            }
            Change::OldTopics(there) => Change::OldTopics(std::mem::replace(&mut self.has_old_topics, there)),
            Change::Subscription(id, value) => {
                let before = match &value {
                    Some(value) => self.subscriptions.insert(id.clone(), value.clone()),
                    None => self.subscriptions.remove(&id),
                };
                if let Some(before) = &before {
                    self.count(&id, before, false);
                }
                if let Some(value) = &value {
                    self.count(&id, value, true);
                }
                Change::Subscription(id, before)
            }
            Change::TargetEpoch(value) => {
                let value = value.unwrap_or(TargetEpoch { epoch: -1, made_at_ms: 0 });
                Change::TargetEpoch(Some(std::mem::replace(&mut self.target_epoch, value)))
            }
            Change::Target(id, value) => {
                let before = match value {
                    Some(value) => self.targets.insert(id.clone(), value),
                    None => self.targets.remove(&id),
                };
                Change::Target(id, before)
            }
            Change::Current(id, value) => {
                let before = match &value {
                    Some(value) => self.currents.insert(id.clone(), value.clone()),
                    None => self.currents.remove(&id),
                };
                if let Some(before) = &before {
                    self.disown(&id, &before.assigned);
                    self.disown(&id, &before.revoking);
                }
                if let Some(value) = &value {
                    self.own(&id, &value.assigned);
                    self.own(&id, &value.revoking);
                }
                Change::Current(id, before)
            }
            Change::Regex(regex, value) => {
                let before = match &value {
                    Some(value) => self.resolved.insert(regex.clone(), value.clone()),
                    None => self.resolved.remove(&regex),
                };
                let read = before.iter().flat_map(|resolved| &resolved.topics);
                read.for_each(|topic| less(&mut self.readers, topic, |readers| &mut readers.by_regex));
                let reads = value.iter().flat_map(|resolved| &resolved.topics);
                reads.for_each(|topic| self.readers.entry(topic.clone()).or_default().by_regex += 1);
                Change::Regex(regex, before)
            }
        }
    }

    fn own(&mut self, member: &Str, owned: &Owned) {
        for (topic, partitions) in owned {
            for partition in partitions.keys() {
                self.owners.insert((*topic, *partition), member.clone());
            }
        }
    }

    fn disown(&mut self, member: &Str, owned: &Owned) {
        for (topic, partitions) in owned {
            for partition in partitions.keys() {
                let key = (*topic, *partition);
                if self.owners.get(&key) == Some(member) {
                    self.owners.remove(&key);
                }
            }
        }
    }

    /// Adds what a member asks for to the counts, or takes it from them.
    fn count(&mut self, id: &Str, subscription: &Subscription, joins: bool) {
        for topic in &subscription.topics {
            match joins {
                true => self.readers.entry(topic.clone()).or_default().by_name += 1,
                false => less(&mut self.readers, topic, |readers| &mut readers.by_name),
            }
        }
        if !subscription.regex.is_empty() {
            step(&mut self.regexes, &subscription.regex, joins);
        }
        if let Some(assignor) = &subscription.assignor {
            step(&mut self.assignors, assignor, joins);
        }
        if let Some(classic) = &subscription.classic {
            self.classic_members = if joins { self.classic_members + 1 } else { self.classic_members - 1 };
            classic.protocols.iter().for_each(|protocol| step(&mut self.classic_protocols, &protocol.name, joins));
        }
        if let Some(instance_id) = &subscription.instance_id {
            if joins {
                self.static_members.insert(instance_id.clone(), id.clone());
            } else if self.static_members.get(instance_id) == Some(id) {
                self.static_members.remove(instance_id);
            }
        }
    }
}

fn less(readers: &mut BTreeMap<Str, Readers>, topic: &Str, count: impl Fn(&mut Readers) -> &mut usize) {
    if let Some(of_topic) = readers.get_mut(topic) {
        *count(of_topic) -= 1;
        if *of_topic == Readers::default() {
            readers.remove(topic);
        }
    }
}

fn step(counts: &mut BTreeMap<Str, usize>, key: &Str, up: bool) {
    if up {
        *counts.entry(key.clone()).or_insert(0) += 1;
    } else if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
