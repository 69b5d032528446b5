//! Which partitions the share coordinator knows a group's state of. A partition that is newly subscribed to is written down as
//! being initialised; then the share coordinator is asked; then it is written down as initialised, and can be assigned.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::{Str, Uuid};

use super::Partitions;
use super::group::ShareGroup;
use super::record::ShareRecord;
use super::state::{Initialization, Initializations};
use crate::Now;
use crate::group::coordinator::GroupCoordinator;
use crate::group::env::Env;
use crate::group::modern::topics::Topics;
use crate::group::outcome::Effects;
use crate::group::writes::OnWritten;

/// A start offset that is left to whoever leads the partition, by `share.auto.offset.reset`.
pub(super) const NOT_DECIDED: i64 = -1;
/// What Kafka calls a topic that it does not find.
const NO_NAME: Str = Str::from_static("<UNKNOWN>");

/// What the share coordinator is to begin to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitializeShareState {
    pub group: Str,
    pub state_epoch: i32,
    /// Start offsets; -1: not decided.
    pub topics: BTreeMap<Uuid, BTreeMap<i32, i64>>,
}

impl InitializeShareState {
    pub(super) fn partitions(&self) -> Partitions {
        self.topics.iter().map(|(id, offsets)| (*id, offsets.keys().copied().collect())).collect()
    }
}

impl GroupCoordinator {
    /// The share coordinator has done what it was asked to, or at least one partition of it failed.
    pub fn share_state_initialized(&mut self, now: Now, asked: &InitializeShareState, failed: bool) -> Effects {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        if let Some(group) = groups.share_mut(&asked.group) {
            let next = group.initialized(now, &*env.catalog.topics, &asked.partitions(), failed);
            if next != *group.state.initializations {
                group.write(&mut env, vec![ShareRecord::Initializations(Some(next))], OnWritten::Nothing);
            }
        }
        self.settle(now, &mut out);
        out
    }

    /// Topics are gone, and with them what the share coordinator knew of them.
    pub(crate) fn forget_share_topics(&mut self, now: Now, topics: &[(Str, Uuid)], out: &mut Effects) {
        let (groups, mut env) = self.parts(now, out);
        for group in groups.values_mut().filter_map(|group| group.share_mut()) {
            let mut next = (*group.state.initializations).clone();
            for (_, id) in topics {
                next.under_way.remove(id);
                next.done.remove(id);
                next.deleting.remove(id);
            }
            if next != *group.state.initializations {
                group.write(&mut env, vec![ShareRecord::Initializations(Some(next))], OnWritten::Nothing);
            }
        }
    }
}

impl ShareGroup {
    /// Adds the record that says which partitions of these topics are initialised from now on, if there are any; what was begun
    /// long ago is begun again.
    pub(super) fn initialize_subscribed(
        &self,
        env: &Env<'_>,
        names: &BTreeSet<Str>,
        epoch: i32,
        records: &mut Vec<ShareRecord>,
    ) -> Option<InitializeShareState> {
        let known = &self.state.initializations;
        let now = env.now;
        let retry_ms = i64::from(env.share_settings.of(&self.id).initialize_retry_interval_ms);
        let is_fresh = |topic: &&Initialization| now.wall_ms.saturating_sub(topic.since_ms) < retry_ms;
        let mut begun = BTreeMap::new();
        for topic in names.iter().filter_map(|name| env.catalog.topics.named(name)) {
            let done = known.done.get(&topic.id).map(|done| &done.partitions);
            let under_way = known.under_way.get(&topic.id).filter(is_fresh).map(|topic| &topic.partitions);
            if done.is_some_and(|done| done.len() as i64 >= i64::from(topic.partitions)) {
                continue;
            }
            let is_missing = |index: &i32| ![done, under_way].into_iter().flatten().any(|known| known.contains(index));
            let partitions: BTreeSet<i32> = (0..topic.partitions).filter(is_missing).collect();
            if !partitions.is_empty() {
                begun.insert(topic.id, Initialization { topic: topic.name, partitions, since_ms: now.wall_ms });
            }
        }
        if begun.is_empty() {
            return None;
        }
        let start = |topic: &Initialization| topic.partitions.iter().map(|index| (*index, NOT_DECIDED)).collect();
        let topics = begun.iter().map(|(id, topic)| (*id, start(topic))).collect();
        records.push(self.begin(begun));
        Some(InitializeShareState { group: self.id.clone(), state_epoch: epoch, topics })
    }

    /// The record that says that these are being initialised.
    pub(super) fn begin(&self, begun: BTreeMap<Uuid, Initialization>) -> ShareRecord {
        let mut next = (*self.state.initializations).clone();
        for (id, topic) in begun {
            next.deleting.remove(&id);
            merge(&mut next.under_way, id, topic);
        }
        ShareRecord::Initializations(Some(next))
    }

    fn initialized(&self, now: Now, topics: &dyn Topics, asked: &Partitions, failed: bool) -> Initializations {
        let mut next = (*self.state.initializations).clone();
        for (id, partitions) in asked {
            if let Some(under_way) = next.under_way.get_mut(id) {
                under_way.partitions.retain(|index| !partitions.contains(index));
                if under_way.partitions.is_empty() {
                    next.under_way.remove(id);
                }
            }
            if !failed {
                let topic = name_of(topics, id);
                let done = Initialization { topic, partitions: partitions.clone(), since_ms: now.wall_ms };
                merge(&mut next.done, *id, done);
            }
        }
        next
    }
}

fn merge(topics: &mut BTreeMap<Uuid, Initialization>, id: Uuid, topic: Initialization) {
    match topics.get_mut(&id) {
        Some(known) => {
            known.partitions.extend(&topic.partitions);
            (known.topic, known.since_ms) = (topic.topic, topic.since_ms);
        }
        None => drop(topics.insert(id, topic)),
    }
}

pub(super) fn name_of(topics: &dyn Topics, id: &Uuid) -> Str {
    topics.with_id(*id).map_or(NO_NAME, |topic| topic.name)
}
