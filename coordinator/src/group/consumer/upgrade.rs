//! A classic group becomes a consumer group when a member of the consumer protocol joins it.
//! (Kafka: `GroupMetadataManager.convertToConsumerGroup`, `ConsumerGroup.fromClassicGroup`.)

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::{ErrorCode, Str, Uuid};

use super::batch::Batch;
use super::change::{Change, GroupEpoch, TargetEpoch};
use super::group::ConsumerGroup;
use super::member::{ClassicMember, Current, MemberState, Subscription};
use super::requests::not_a_consumer_group;
use crate::Now;
use crate::group::GroupConfig;
use crate::group::classic::ClassicGroup;
use crate::group::coordinator::GroupCoordinator;
use crate::group::embedded;
use crate::group::env::Env;
use crate::group::member::Member;
use crate::group::modern::partitions::{Owned, Partitions};
use crate::group::modern::topics::Topics;
use crate::group::outcome::Effects;
use crate::group::refusal::Refusal;
use crate::group::state::GroupState;
use crate::group::table::Group;
use crate::group::writes::Undo;

/// A member of a classic group in the terms of a consumer group.
struct Converted {
    id: Str,
    subscription: Subscription,
    assigned: Partitions,
}

impl GroupCoordinator {
    /// Makes the group if there is none. A classic group gives way to it: an empty one is gone, one with members brings them
    /// along.
    pub(super) fn open_consumer_group(
        &mut self,
        now: Now,
        group_id: &Str,
        batch: &mut Batch,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        match self.groups.get(group_id) {
            Some(Group::Consumer(_)) => return Ok(()),
            Some(Group::Share(_) | Group::Streams(_)) => return Err(not_a_consumer_group(group_id)),
            Some(Group::Classic(group)) if !group.is_in(GroupState::Empty) => {
                return self.upgrade(now, group_id, batch, out);
            }
            Some(Group::Classic(_)) | None => {}
        }
        self.exchange_classic(group_id, batch);
        let group = self.created(group_id, batch);
        self.groups.add(Group::Consumer(group));
        Ok(())
    }

    fn upgrade(&mut self, now: Now, group_id: &Str, batch: &mut Batch, out: &mut Effects) -> Result<(), Refusal> {
        let (groups, mut env) = self.parts(now, out);
        let classic = groups.classic_mut(group_id).ok_or_else(|| not_a_consumer_group(group_id))?;
        classic.check_upgrade(env.config)?;
        // There will be another rebalance: whoever waits for this one is to come again.
        classic.answer_all(&mut env, ErrorCode::RebalanceInProgress);
        let generation = classic.generation;
        let members = classic.converted(&*env.catalog.topics)?;
        self.exchange_classic(group_id, batch);
        let mut group = self.created(group_id, batch);
        let (groups, mut env) = self.parts(now, out);
        group.take_over(&mut env, batch, generation, members);
        groups.add(Group::Consumer(group));
        Ok(())
    }

    /// Takes the classic group out of the table, if there is one.
    fn exchange_classic(&mut self, group_id: &Str, batch: &mut Batch) {
        if let Some(classic) = self.groups.remove(group_id) {
            batch.records(classic.tombstones());
            batch.undo.push(Undo::RemovedGroup(Box::new(classic)));
        }
    }

    fn created(&mut self, group_id: &Str, batch: &mut Batch) -> ConsumerGroup {
        let group = ConsumerGroup::new(group_id.detach(), self.next_incarnation());
        batch.undo.push(Undo::CreatedGroup { group: group.id.clone(), incarnation: group.incarnation });
        group
    }
}

impl ClassicGroup {
    fn check_upgrade(&self, config: &GroupConfig) -> Result<(), Refusal> {
        if !config.consumer.migration.upgrades() {
            Err(self.no_upgrade("online upgrade is disabled"))
        } else if !self.uses_consumer_protocol() {
            Err(self.no_upgrade("the group does not use the consumer embedded protocol"))
        } else if self.members.len() > config.consumer.max_size {
            Err(self.no_upgrade("the group size exceeds the consumer group maximum size"))
        } else {
            Ok(())
        }
    }

    fn no_upgrade(&self, why: &str) -> Refusal {
        let message = format!("Cannot upgrade classic group {} to consumer group because {why}.", self.id);
        Refusal::new(ErrorCode::GroupIdNotFound, message)
    }

    /// The members, with what their leader assigned to them last.
    fn converted(&self, topics: &dyn Topics) -> Result<Vec<Converted>, Refusal> {
        let mut taken: BTreeSet<(Uuid, i32)> = BTreeSet::new();
        let mut all = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            let converted = self.convert(topics, id, member)?;
            for (topic, partitions) in &converted.assigned {
                // No consumer group can have two owners of a partition, and Kafka fails in the same place.
                if !partitions.iter().all(|partition| taken.insert((*topic, *partition))) {
                    return Err(Refusal::new(ErrorCode::UnknownServerError, ""));
                }
            }
            all.push(converted);
        }
        Ok(all)
    }

    fn convert(&self, topics: &dyn Topics, id: &Str, member: &Member) -> Result<Converted, Refusal> {
        let malformed = |_| self.no_upgrade("the embedded consumer protocol is malformed");
        let mut assigned = Partitions::new();
        // Empty: it has not synced yet.
        if !member.assignment.is_empty() {
            let assignment = embedded::assignment(&member.assignment).map_err(malformed)?;
            if assignment.user_data.is_some_and(|data| !data.is_empty()) {
                return Err(self.no_upgrade(
                    "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default \
                     assignor before re-attempting the upgrade",
                ));
            }
            for topic in assignment.assigned_partitions {
                if let Some(known) = topics.named(&topic.topic).filter(|_| !topic.partitions.is_empty()) {
                    assigned.insert(known.id, topic.partitions.into_iter().collect());
                }
            }
        }
        // While the first generation is being made no protocol is chosen yet, which Kafka does not see coming.
        let offered = member.protocols.iter().find(|offered| Some(&offered.name) == self.protocol_name.as_ref());
        let offered = offered.ok_or_else(|| Refusal::new(ErrorCode::UnknownServerError, ""))?;
        let wanted = embedded::subscription(&offered.metadata).map_err(malformed)?;
        let subscription = Subscription {
            instance_id: member.instance_id.clone(),
            rack_id: wanted.rack_id.as_ref().map(Str::detach).filter(|rack| !rack.is_empty()),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: wanted.topics.iter().map(Str::detach).collect(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            classic: Some(ClassicMember {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
            ..Subscription::default()
        };
        Ok(Converted { id: id.clone(), subscription, assigned })
    }
}

impl ConsumerGroup {
    /// Members of a classic generation have what they had, which is also what they are meant to have until something changes.
    fn take_over(&mut self, env: &mut Env<'_>, batch: &mut Batch, generation: i32, members: Vec<Converted>) {
        for member in &members {
            self.change(batch, Change::Subscription(member.id.clone(), Some(Arc::new(member.subscription.clone()))));
        }
        let topics_hash = env.catalog.group_hash(self.readers.keys());
        self.change(batch, Change::Epoch(Some(GroupEpoch { epoch: generation, topics_hash })));
        for member in &members {
            self.change(batch, Change::Target(member.id.clone(), Some(Arc::new(member.assigned.clone()))));
        }
        self.change(batch, Change::TargetEpoch(Some(TargetEpoch { epoch: generation, made_at_ms: 0 })));
        for member in members {
            let since = |partitions: BTreeSet<i32>| partitions.into_iter().map(|p| (p, generation)).collect();
            let assigned: Owned = member.assigned.into_iter().map(|(topic, p)| (topic, since(p))).collect();
            let current = Current {
                epoch: generation,
                previous_epoch: generation,
                state: MemberState::Stable,
                assigned,
                revoking: Owned::new(),
            };
            self.change(batch, Change::Current(member.id.clone(), Some(Arc::new(current))));
            if let Some(classic) = &member.subscription.classic {
                self.start_session(env, &member.id, classic.session_timeout_ms);
            }
        }
    }
}
