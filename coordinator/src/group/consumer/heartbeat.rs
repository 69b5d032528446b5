//! ConsumerGroupHeartbeat: members join, say what they want and have, and hear what is theirs.
//! (Kafka: `GroupMetadataManager.consumerGroupHeartbeat`.)

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequestTopicPartitions, ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseAssignment, ConsumerGroupHeartbeatResponseTopicPartitions,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::batch::Batch;
use super::change::{Change, GroupEpoch};
use super::group::ConsumerGroup;
use super::member::{Current, JOINING, LEAVING_FOR_A_WHILE, MemberState, Subscription};
use super::reconcile::Step;
use super::regex::RegexChange;
use crate::group::RequestContext;
use crate::group::env::Env;
use crate::group::modern::partitions::{Owned, has};
use crate::group::refusal::Refusal;

/// What a member brings, by either protocol.
pub(super) struct Asked<'a> {
    pub(super) member_id: Str,
    pub(super) subscription: Subscription,
    /// What the member says it owns; nothing if it did not say.
    pub(super) owned: Option<&'a [ConsumerGroupHeartbeatRequestTopicPartitions]>,
    /// A regular expression that was resolved already counts at once; one that goes does as well in the classic protocol.
    pub(super) regex_change_counts: bool,
}

impl ConsumerGroup {
    /// A member's heartbeat, which has passed the checks that need no group.
    pub(super) fn heartbeat(
        &mut self,
        env: &mut Env<'_>,
        batch: &mut Batch,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        self.check_size(env, &request.member_id)?;
        let member_id = match request.member_id.is_empty() {
            true => context.random_id(),
            false => request.member_id.detach(),
        };
        self.admit(batch, &member_id, request)?;
        let before = self.current(&member_id);
        let asked = Asked {
            subscription: self.wanted(context, &member_id, request),
            member_id: member_id.clone(),
            owned: request.topic_partitions.as_deref(),
            regex_change_counts: false,
        };
        let after = self.serve(env, batch, asked)?;
        self.start_session(env, &member_id, env.consumer_settings.of(&self.id).session_timeout_ms);
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let tell = request.member_epoch == JOINING || is_full || before.assigned != after.assigned;
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: after.epoch,
            heartbeat_interval_ms: env.consumer_settings.of(&self.id).heartbeat_interval_ms,
            assignment: tell.then(|| told(&after.assigned)),
            ..Default::default()
        })
    }

    pub(super) fn check_size(&self, env: &Env<'_>, member_id: &str) -> Result<(), Refusal> {
        let max = env.config.consumer.max_size;
        if self.members() >= max && !self.has(member_id) {
            let message = format!("The consumer group has reached its maximum capacity of {max} members.");
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        Ok(())
    }

    /// Sees that the member is one, or may become one: under its instance id it takes over what that had.
    fn admit(
        &mut self,
        batch: &mut Batch,
        member_id: &Str,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(), Refusal> {
        let joining = request.member_epoch == JOINING;
        let Some(instance_id) = &request.instance_id else {
            if !self.has(member_id) && !joining {
                return Err(self.unknown_member(member_id));
            }
            return self.check_epoch(member_id, request);
        };
        match self.static_members.get(instance_id).cloned() {
            None if joining => Ok(()),
            None => Err(unknown_instance(instance_id)),
            Some(before) if joining => {
                let speaks_classic = self.subscriptions.get(&before).is_some_and(|member| member.classic.is_some());
                if !speaks_classic && self.current(&before).epoch != LEAVING_FOR_A_WHILE {
                    return Err(Refusal::new(
                        ErrorCode::UnreleasedInstanceId,
                        format!(
                            "Static member {member_id} with instance id {instance_id} cannot join the group because \
                             the instance id is owned by {before} member."
                        ),
                    ));
                }
                self.replace(batch, &before, member_id);
                Ok(())
            }
            Some(current) => {
                check_instance(&current, member_id, instance_id)?;
                self.check_epoch(member_id, request)
            }
        }
    }

    /// Gives what one member has to another, which is the same static member under a new id.
    pub(super) fn replace(&mut self, batch: &mut Batch, old: &Str, new: &Str) {
        let subscription = self.subscriptions.get(old).cloned();
        let target = self.target(old);
        let current = Current { epoch: 0, previous_epoch: 0, ..(*self.current(old)).clone() };
        self.remove_member(batch, old);
        self.change(batch, Change::Subscription(new.clone(), subscription));
        self.change(batch, Change::Target(new.clone(), Some(target)));
        self.change(batch, Change::Current(new.clone(), Some(Arc::new(current))));
    }

    pub(super) fn remove_member(&mut self, batch: &mut Batch, member: &Str) {
        self.change(batch, Change::Current(member.clone(), None));
        self.change(batch, Change::Target(member.clone(), None));
        self.change(batch, Change::Subscription(member.clone(), None));
    }

    /// An epoch is the one that the member was told last, or if that answer was lost, the one before.
    fn check_epoch(&self, member_id: &str, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
        let received = request.member_epoch;
        let current = self.current(member_id);
        let known = current.epoch;
        let lost_answer = || {
            let owned = request.topic_partitions.as_ref();
            received == current.previous_epoch
                && owned.is_some_and(|owned| {
                    let mut topics = owned.iter();
                    topics.all(|topic| {
                        current.assigned.contains_key(&topic.topic_id)
                            && topic.partitions.iter().all(|p| has(&current.assigned, topic.topic_id, *p))
                    })
                })
        };
        if received == JOINING || received == known || (received < known && lost_answer()) {
            return Ok(());
        }
        let size = if received > known { "greater" } else { "smaller" };
        Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            format!(
                "The consumer group member has a {size} member epoch ({received}) than the one known by the group \
                 coordinator ({known}). The member must abandon all its partitions and rejoin."
            ),
        ))
    }

    pub(super) fn unknown_member(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// What the member asks for now: what the request leaves out is as before.
    fn wanted(
        &self,
        context: &RequestContext,
        member_id: &str,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Subscription {
        let before = self.subscriptions.get(member_id).map(|before| (**before).clone()).unwrap_or_default();
        let detached = |text: &Option<Str>| text.as_ref().map(Str::detach);
        let topics = request.subscribed_topic_names.as_ref().map(|topics| topics.iter().map(Str::detach).collect());
        Subscription {
            instance_id: detached(&request.instance_id).or(before.instance_id),
            rack_id: detached(&request.rack_id).or(before.rack_id),
            client_id: context.client_id.detach(),
            client_host: context.client_host.detach(),
            topics: topics.unwrap_or(before.topics),
            regex: detached(&request.subscribed_topic_regex).unwrap_or(before.regex),
            assignor: detached(&request.server_assignor).or(before.assignor),
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                -1 => before.rebalance_timeout_ms,
                timeout => timeout,
            },
            classic: None,
        }
    }

    /// Takes over what the member asks for, makes a new target if that is due, and moves the member towards it.
    pub(super) fn serve(
        &mut self,
        env: &mut Env<'_>,
        batch: &mut Batch,
        asked: Asked<'_>,
    ) -> Result<Arc<Current>, Refusal> {
        let changed = self.subscribe(env, batch, &asked)?;
        self.maybe_assign(env, batch);
        self.reconcile(env, batch, &asked, changed)
    }

    /// Takes over what the member asks for; the group's epoch grows if that, or the topics, make a new assignment necessary.
    /// Gives whether the member reads other topics now.
    pub(super) fn subscribe(
        &mut self,
        env: &mut Env<'_>,
        batch: &mut Batch,
        asked: &Asked<'_>,
    ) -> Result<bool, Refusal> {
        let before = self.subscriptions.get(&asked.member_id).cloned();
        let default = Subscription::default();
        let old = before.as_deref().unwrap_or(&default);
        let names_changed = old.topics != asked.subscription.topics;
        let regex = self.change_regex(batch, &old.regex.clone(), &asked.subscription.regex)?;
        if before.as_deref() != Some(&asked.subscription) {
            let subscription = Some(Arc::new(asked.subscription.clone()));
            self.change(batch, Change::Subscription(asked.member_id.clone(), subscription));
        }
        self.maybe_refresh_regexes(env);
        let changed = names_changed || regex != RegexChange::None;
        let counts = if asked.regex_change_counts { changed } else { names_changed || regex == RegexChange::Resolved };
        if counts || !self.has_fresh_topics() {
            self.look_at_topics(env, batch, counts);
        }
        Ok(changed)
    }

    /// Whether the topics have been looked at since they changed, and that was not taken back.
    fn has_fresh_topics(&self) -> bool {
        self.topics_seen.is_some_and(|epoch| epoch <= self.epoch.epoch)
    }

    pub(super) fn look_at_topics(&mut self, env: &mut Env<'_>, batch: &mut Batch, bump: bool) {
        let topics_hash = env.catalog.group_hash(self.readers.keys());
        if bump || topics_hash != self.epoch.topics_hash {
            let epoch = self.epoch.epoch + 1;
            self.change(batch, Change::Epoch(Some(GroupEpoch { epoch, topics_hash })));
        }
        self.topics_seen = Some(self.epoch.epoch);
        if self.has_old_topics {
            self.change(batch, Change::OldTopics(false));
        }
    }

    pub(super) fn reconcile(
        &mut self,
        env: &mut Env<'_>,
        batch: &mut Batch,
        asked: &Asked<'_>,
        subscription_changed: bool,
    ) -> Result<Arc<Current>, Refusal> {
        let member_id = &asked.member_id;
        let current = self.current(member_id);
        if !subscription_changed && current.is_reconciled_to(self.target_epoch.epoch) {
            return Ok(current);
        }
        let target = self.target(member_id);
        let topics = self.topics_of(env, &asked.subscription);
        let step = Step {
            current: &current,
            target_epoch: self.target_epoch.epoch,
            target: &target,
            topics: &topics,
            subscription_changed,
            owned: asked.owned,
            is_owned: &|topic: Uuid, partition: i32| self.owners.contains_key(&(topic, partition)),
        };
        let next = step.next()?;
        if next == *current {
            return Ok(current);
        }
        let next = Arc::new(next);
        self.change(batch, Change::Current(member_id.clone(), Some(next.clone())));
        if asked.subscription.classic.is_none() {
            self.rebalance_timer(env, member_id, asked.subscription.rebalance_timeout_ms, &next);
        }
        Ok(next)
    }

    /// A member that has to give up partitions may take as long for it as it said.
    fn rebalance_timer(&mut self, env: &mut Env<'_>, member_id: &Str, timeout_ms: i32, current: &Current) {
        match current.state {
            MemberState::Revoking => self.start_rebalance(env, member_id, timeout_ms, current.epoch),
            _ => {
                if let Some(timers) = self.timers.get_mut(member_id) {
                    timers.rebalance.cancel();
                }
            }
        }
    }

    /// The topics that a subscription means, as far as they exist. A regular expression that is not resolved matches nothing.
    pub(super) fn topics_of(&self, env: &Env<'_>, subscription: &Subscription) -> BTreeSet<Uuid> {
        let matched = self.resolved.get(&subscription.regex).filter(|_| !subscription.regex.is_empty());
        let names = subscription.topics.iter().chain(matched.iter().flat_map(|resolved| &resolved.topics));
        names.filter_map(|name| env.catalog.topics.named(name)).map(|topic| topic.id).collect()
    }
}

pub(super) fn unknown_instance(instance_id: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))
}

pub(super) fn check_instance(current: &str, member_id: &str, instance_id: &str) -> Result<(), Refusal> {
    if current == member_id {
        return Ok(());
    }
    let message = format!("Static member {member_id} with instance id {instance_id} was fenced by member {current}.");
    Err(Refusal::new(ErrorCode::FencedInstanceId, message))
}

fn told(assigned: &Owned) -> ConsumerGroupHeartbeatResponseAssignment {
    let topics = assigned.iter().map(|(topic_id, partitions)| ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        ..Default::default()
    });
    ConsumerGroupHeartbeatResponseAssignment { topic_partitions: topics.collect(), ..Default::default() }
}
