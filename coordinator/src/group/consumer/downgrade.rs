//! A consumer group becomes a classic group when the last of its members goes that speaks the consumer protocol.
//! (Kafka: `GroupMetadataManager.convertToClassicGroup`, `ClassicGroup.fromConsumerGroup`.)

use std::collections::BTreeSet;

use corelane_protocol::{EncodeError, ErrorCode, Str};

use super::batch::Batch;
use super::group::ConsumerGroup;
use super::member::{ClassicMember, Subscription};
use crate::Now;
use crate::group::GroupConfig;
use crate::group::classic::ClassicGroup;
use crate::group::coordinator::GroupCoordinator;
use crate::group::embedded;
use crate::group::env::Env;
use crate::group::member::Member;
use crate::group::modern::partitions::Partitions;
use crate::group::outcome::Effects;
use crate::group::protocol::CONSUMER_PROTOCOL_TYPE;
use crate::group::refusal::Refusal;
use crate::group::state::GroupState;
use crate::group::table::Group;
use crate::group::writes::Undo;
use crate::timer::Timer;

/// How a consumer group ends as one.
pub(super) struct Downgrade {
    /// The generation that the classic group is in then.
    pub(super) generation: i32,
    /// The members that leave just now.
    pub(super) without: BTreeSet<Str>,
    /// The members have to agree on their partitions again.
    pub(super) rebalance: bool,
}

impl ConsumerGroup {
    /// Whether it becomes a classic group when these members leave.
    pub(super) fn ends_without(&self, config: &GroupConfig, members: &BTreeSet<Str>) -> bool {
        let left = self.subscriptions.iter().filter(|(id, _)| !members.contains(*id));
        let (mut count, mut all_classic) = (0, true);
        left.for_each(|(_, member)| (count, all_classic) = (count + 1, all_classic && member.classic.is_some()));
        all_classic && count > 0 && config.consumer.migration.downgrades() && count <= config.max_size
    }

    /// Whether it becomes a classic group when the member is replaced by one that speaks the classic protocol.
    pub(super) fn ends_when_replaced(&self, config: &GroupConfig, member: &str) -> bool {
        let speaks_classic = self.subscriptions.get(member).is_some_and(|member| member.classic.is_some());
        !speaks_classic
            && self.classic_members + 1 == self.members()
            && config.consumer.migration.downgrades()
            && self.members() <= config.max_size
    }

    /// What a member reads, as far as the group knows, with what it is to give up.
    fn held(&self, member: &str) -> Partitions {
        let current = self.current(member);
        let mut held = Partitions::new();
        for (topic, partitions) in current.assigned.iter().chain(&current.revoking) {
            held.entry(*topic).or_default().extend(partitions.keys());
        }
        held
    }

    /// The group as a classic one, in which everyone has what it holds. In Kafka it has what it is meant to have: where the group is a
    /// consumer group again before all have heard of that, partitions are given away then that somebody still reads.
    fn to_classic(
        &self,
        env: &Env<'_>,
        incarnation: u64,
        end: &Downgrade,
    ) -> Result<Result<ClassicGroup, EncodeError>, Refusal> {
        let mut group = ClassicGroup::new(self.id.clone(), incarnation, env.now.wall_ms);
        group.state = GroupState::Stable;
        group.generation = end.generation;
        group.must_rejoin = end.rebalance;
        for (id, subscription) in self.subscriptions.iter().filter(|(id, _)| !end.without.contains(*id)) {
            if let Some(classic) = &subscription.classic {
                let protocol_type = Some(Str::from_static(CONSUMER_PROTOCOL_TYPE));
                group.add(id.clone(), classic_member(subscription, classic), protocol_type);
            }
        }
        group.protocol_name = group.select_protocol();
        group.find_subscribed_topics();
        let protocol = group.protocol_name.clone();
        for (id, member) in &mut group.members {
            let metadata = member.metadata(protocol.as_deref());
            let assignment = embedded::encode_assignment(&metadata, &self.held(id), &*env.catalog.topics);
            match assignment {
                Ok(Ok(assignment)) => member.assignment = assignment,
                Ok(Err(error)) => return Ok(Err(error)),
                Err(error) => {
                    let message = format!("Cannot downgrade the classic group {}: {error}.", self.id);
                    return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
                }
            }
        }
        Ok(Ok(group))
    }
}

impl GroupCoordinator {
    pub(super) fn downgrade(
        &mut self,
        now: Now,
        group_id: &str,
        end: &Downgrade,
        batch: &mut Batch,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let incarnation = self.next_incarnation();
        let (groups, mut env) = self.parts(now, out);
        let Some(consumer) = groups.consumer(group_id) else { return Ok(()) };
        let mut group = match consumer.to_classic(&env, incarnation, end)? {
            Ok(group) => group,
            Err(error) => {
                batch.record(Err(error));
                return Ok(());
            }
        };
        batch.records(consumer.tombstones());
        batch.record(group.to_record(None));
        if let Some(consumer) = groups.remove(group_id) {
            batch.undo.push(Undo::RemovedGroup(Box::new(consumer)));
        }
        batch.undo.push(Undo::CreatedGroup { group: group.id.clone(), incarnation });
        let members: Vec<Str> = group.members.keys().cloned().collect();
        members.iter().for_each(|member| group.restart_session(&mut env, member));
        if end.rebalance {
            group.prepare_rebalance(&mut env);
        }
        groups.add(Group::Classic(group));
        Ok(())
    }
}

fn classic_member(subscription: &Subscription, classic: &ClassicMember) -> Member {
    Member {
        instance_id: subscription.instance_id.clone(),
        client_id: subscription.client_id.clone(),
        client_host: subscription.client_host.clone(),
        rebalance_timeout_ms: subscription.rebalance_timeout_ms,
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic.protocols.clone(),
        assignment: Default::default(),
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
        session: Timer::default(),
    }
}
