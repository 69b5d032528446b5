//! A member that speaks the classic protocol joins a consumer group.
//! (Kafka: `GroupMetadataManager.classicGroupJoinToConsumerGroup`.)

use corelane_protocol::messages::{ConsumerGroupHeartbeatRequestTopicPartitions, JoinGroupRequest, JoinGroupResponse};
use corelane_protocol::records::data::ConsumerProtocolSubscription;
use corelane_protocol::{ErrorCode, Str};

use super::batch::Batch;
use super::downgrade::Downgrade;
use super::group::ConsumerGroup;
use super::heartbeat::{Asked, check_instance, unknown_instance};
use super::member::{ClassicMember, Subscription};
use super::requests::not_a_consumer_group;
use crate::Now;
use crate::group::config::MigrationPolicy;
use crate::group::coordinator::GroupCoordinator;
use crate::group::embedded;
use crate::group::env::Env;
use crate::group::join::{Joining, MEMBER_ID_REQUIRED_FROM};
use crate::group::member::protocols_of;
use crate::group::outcome::{Effects, Reply};
use crate::group::protocol::CONSUMER_PROTOCOL_TYPE;
use crate::group::refusal::Refusal;
use crate::group::reject;

impl GroupCoordinator {
    /// A join of a consumer group that has members. The coordinator assigns, so nobody is waited for: answered when it is
    /// stored.
    pub(in crate::group) fn join_consumer_group(
        &mut self,
        now: Now,
        joining: &Joining<'_>,
        out: &mut Effects,
    ) -> Reply<JoinGroupResponse> {
        let (request, context) = (joining.request, joining.context);
        let is_new = request.member_id.is_empty();
        let member_id = if is_new { context.random_id() } else { request.member_id.detach() };
        let (groups, env) = self.parts(now, out);
        let checked = match groups.consumer(&request.group_id) {
            Some(group) => group.check_classic_join(&env, &member_id, request),
            None => Err(not_a_consumer_group(&request.group_id)),
        };
        if let Err(refusal) = checked {
            return Reply::Now(reject::join_body("", refusal.code));
        }
        if is_new && request.group_instance_id.is_none() && context.api_version >= MEMBER_ID_REQUIRED_FROM {
            return Reply::Now(reject::join_body(&member_id, ErrorCode::MemberIdRequired));
        }
        let mut batch = Batch::default();
        match self.classic_member_joins(now, joining, member_id, &mut batch, out) {
            Err(refusal) => {
                self.drop_batch(now, batch, out);
                Reply::Now(reject::join_body("", refusal.code))
            }
            Ok(mut response) => {
                self.write_batch(now, &request.group_id.detach(), batch, out);
                let Some(last) = self.writes.last_of(&request.group_id) else { return Reply::Now(response) };
                reject::fit_join(context.api_version, &mut response);
                self.writes.reply_after(last, joining.waiter.token, response);
                joining.wait()
            }
        }
    }

    fn classic_member_joins(
        &mut self,
        now: Now,
        joining: &Joining<'_>,
        member_id: Str,
        batch: &mut Batch,
        out: &mut Effects,
    ) -> Result<JoinGroupResponse, Refusal> {
        let request = joining.request;
        let (groups, mut env) = self.parts(now, out);
        let group = groups.consumer_mut(&request.group_id).ok_or_else(|| not_a_consumer_group(&request.group_id))?;
        let generation = group.epoch.epoch;
        let instance_id = request.group_instance_id.as_ref();
        let replaced = instance_id.and_then(|instance_id| group.static_members.get(instance_id));
        let ends = replaced.is_some_and(|replaced| group.ends_when_replaced(env.config, replaced));
        group.admit_classic(batch, &member_id, request)?;
        let malformed = |_| Refusal::new(ErrorCode::UnknownServerError, "");
        let offered = request.protocols.first().map(|protocol| &protocol.metadata).cloned().unwrap_or_default();
        let wanted = embedded::subscription(&offered).map_err(malformed)?;
        let owned = owned(&env, &wanted);
        let asked = Asked {
            subscription: group.wanted_classic(joining, &member_id, &wanted),
            member_id: member_id.clone(),
            owned: Some(&owned),
            regex_change_counts: true,
        };
        let protocol_name = request.protocols.first().map(|protocol| protocol.name.detach());
        let epoch = if ends {
            let changed = group.subscribe(&mut env, batch, &asked)?;
            let rebalance = group.target_epoch.epoch < group.epoch.epoch;
            let current = match rebalance {
                true => group.current(&member_id),
                false => group.reconcile(&mut env, batch, &asked, changed)?,
            };
            let end = Downgrade { generation, without: Default::default(), rebalance };
            self.downgrade(now, &request.group_id, &end, batch, out)?;
            current.epoch
        } else {
            let current = group.serve(&mut env, batch, asked)?;
            group.classic_joined(&mut env, &member_id, request.session_timeout_ms, joining.rebalance_timeout_ms);
            current.epoch
        };
        Ok(JoinGroupResponse {
            member_id,
            generation_id: epoch,
            protocol_type: Some(Str::from_static(CONSUMER_PROTOCOL_TYPE)),
            protocol_name,
            ..Default::default()
        })
    }
}

impl ConsumerGroup {
    fn check_classic_join(&self, env: &Env<'_>, member_id: &str, request: &JoinGroupRequest) -> Result<(), Refusal> {
        let inconsistent = || Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, ""));
        if env.config.consumer.migration == MigrationPolicy::Disabled {
            return inconsistent();
        }
        self.check_size(env, member_id)?;
        // One of its protocols must be one that every member of the classic protocol has.
        let is_common = |name: &Str| self.classic_protocols.get(name).copied().unwrap_or(0) == self.classic_members;
        match request.protocol_type == CONSUMER_PROTOCOL_TYPE && request.protocols.iter().any(|p| is_common(&p.name)) {
            true => Ok(()),
            false => inconsistent(),
        }
    }

    /// Under its instance id a member that does not know its id takes over what that had, whichever protocol it spoke.
    fn admit_classic(&mut self, batch: &mut Batch, member_id: &Str, request: &JoinGroupRequest) -> Result<(), Refusal> {
        let Some(instance_id) = &request.group_instance_id else { return Ok(()) };
        let before = self.static_members.get(instance_id).cloned();
        match before {
            Some(before) if request.member_id.is_empty() => {
                self.replace(batch, &before, member_id);
                Ok(())
            }
            Some(current) => check_instance(&current, member_id, instance_id),
            None if request.member_id.is_empty() => Ok(()),
            None => Err(unknown_instance(instance_id)),
        }
    }

    /// What the member asks for now. It has no regular expression in the classic protocol.
    fn wanted_classic(
        &self,
        joining: &Joining<'_>,
        member_id: &str,
        wanted: &ConsumerProtocolSubscription,
    ) -> Subscription {
        let (request, context) = (joining.request, joining.context);
        let before = self.subscriptions.get(member_id).map(|before| (**before).clone()).unwrap_or_default();
        Subscription {
            instance_id: request.group_instance_id.as_ref().map(Str::detach).or(before.instance_id),
            rack_id: wanted.rack_id.as_ref().filter(|rack| !rack.is_empty()).map(Str::detach).or(before.rack_id),
            client_id: context.client_id.detach(),
            client_host: context.client_host.detach(),
            topics: wanted.topics.iter().map(Str::detach).collect(),
            regex: Str::EMPTY,
            assignor: before.assignor,
            rebalance_timeout_ms: match joining.rebalance_timeout_ms {
                -1 => before.rebalance_timeout_ms,
                timeout => timeout,
            },
            classic: Some(ClassicMember {
                session_timeout_ms: request.session_timeout_ms,
                protocols: protocols_of(request),
            }),
        }
    }
}

/// What the member says it owns, of topics that exist.
fn owned(env: &Env<'_>, wanted: &ConsumerProtocolSubscription) -> Vec<ConsumerGroupHeartbeatRequestTopicPartitions> {
    let owned = wanted.owned_partitions.iter().filter_map(|topic| {
        Some(ConsumerGroupHeartbeatRequestTopicPartitions {
            topic_id: env.catalog.topics.named(&topic.topic)?.id,
            partitions: topic.partitions.clone(),
            ..Default::default()
        })
    });
    owned.collect()
}
