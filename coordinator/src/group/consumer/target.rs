//! The target assignment: what every member is meant to have. (Kafka: `TargetAssignmentBuilder`.)

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::{Str, Uuid};

use super::batch::Batch;
use super::change::{Change, TargetEpoch};
use super::group::ConsumerGroup;
use crate::group::env::Env;
use crate::group::modern::assignor::{Assignor, GroupSpec, MemberSpec};
use crate::group::modern::partitions::Partitions;

impl ConsumerGroup {
    /// Makes the target of the group's epoch, unless the last one was made too short a time ago.
    pub(super) fn maybe_assign(&mut self, env: &mut Env<'_>, batch: &mut Batch) {
        let TargetEpoch { epoch, made_at_ms } = self.target_epoch;
        let interval_ms = i64::from(env.consumer_settings.of(&self.id).assignment_interval_ms);
        let is_time = made_at_ms == 0 || interval_ms == 0 || env.now.wall_ms >= made_at_ms.saturating_add(interval_ms);
        if epoch < self.epoch.epoch && is_time {
            self.assign(env, batch);
        }
    }

    fn assign(&mut self, env: &mut Env<'_>, batch: &mut Batch) {
        let assignor = self.preferred_assignor().unwrap_or_else(|| env.config.consumer.default_assignor());
        let made = {
            let nothing = Partitions::new();
            let mut known: BTreeMap<(&BTreeSet<Str>, &Str), Rc<BTreeSet<Uuid>>> = BTreeMap::new();
            let mut members = Vec::with_capacity(self.members());
            for (id, subscription) in &self.subscriptions {
                let topics = known.entry((&subscription.topics, &subscription.regex));
                let topics = topics.or_insert_with(|| Rc::new(self.topics_of(env, subscription)));
                members.push(MemberSpec {
                    id: id.clone(),
                    instance_id: subscription.instance_id.as_ref(),
                    topics: topics.clone(),
                    assigned: self.targets.get(id).map_or(&nothing, |target| &**target),
                });
            }
            let mut topics = known.values();
            let first = topics.next();
            let same_topics = topics.all(|topics| Some(topics) == first);
            let partition_counts = known
                .values()
                .flat_map(|topics| topics.iter())
                .filter_map(|topic| Some((*topic, env.catalog.partitions_of(*topic)?)))
                .collect();
            assignor.assign(&GroupSpec { members, same_topics, partition_counts })
        };
        let members: Vec<Str> = self.subscriptions.keys().cloned().collect();
        for id in members {
            let target = made.get(&id).cloned().unwrap_or_default();
            if self.targets.get(&id).is_none_or(|before| **before != target) {
                self.change(batch, Change::Target(id, Some(Arc::new(target))));
            }
        }
        let target = TargetEpoch { epoch: self.epoch.epoch, made_at_ms: env.now.wall_ms };
        self.change(batch, Change::TargetEpoch(Some(target)));
    }

    /// The assignor that most members ask for, if any does. Kafka leaves a tie open, here the last by name wins.
    pub(super) fn preferred_assignor(&self) -> Option<Assignor> {
        let (name, _) = self.assignors.iter().max_by_key(|(_, count)| **count)?;
        Assignor::named(name)
    }
}
