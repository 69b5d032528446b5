//! What a member that speaks the classic protocol asks of a consumer group after it has joined.
//! (Kafka: `GroupMetadataManager.classicGroupSyncToConsumerGroup`, `classicGroupHeartbeatToConsumerGroup`.)

use corelane_protocol::messages::{HeartbeatRequest, SyncGroupRequest, SyncGroupResponse};
use corelane_protocol::{ErrorCode, Str};

use super::batch::Batch;
use super::group::ConsumerGroup;
use super::member::{ClassicMember, Current, MemberState};
use crate::Now;
use crate::group::coordinator::GroupCoordinator;
use crate::group::embedded;
use crate::group::env::Env;
use crate::group::modern::partitions::Partitions;
use crate::group::outcome::{Effects, Outcome};
use crate::group::protocol::CONSUMER_PROTOCOL_TYPE;
use crate::group::reject;

impl GroupCoordinator {
    /// What the member has. Answered when that is stored.
    pub(in crate::group) fn sync_consumer_group(
        &mut self,
        now: Now,
        request: &SyncGroupRequest,
    ) -> Outcome<SyncGroupResponse> {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        let synced = match groups.consumer_mut(&request.group_id) {
            Some(group) => group.sync_classic(&mut env, request),
            None => Err(ErrorCode::UnknownMemberId),
        };
        match synced {
            Ok(response) => self.finish_batch(now, &request.group_id, Batch::default(), response, out),
            Err(error) => Outcome::now(reject::sync(error)),
        }
    }
}

impl ConsumerGroup {
    /// The member of the request, which must be one that speaks the classic protocol and knows its generation.
    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(&Str, &ClassicMember, &Current), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let (id, subscription) = self.subscriptions.get_key_value(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let classic = subscription.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        let current = self.currents.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if current.epoch != generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok((id, classic, current))
    }

    fn sync_classic(&mut self, env: &mut Env<'_>, request: &SyncGroupRequest) -> Result<SyncGroupResponse, ErrorCode> {
        let (id, classic, current) =
            self.classic_member(&request.member_id, request.group_instance_id.as_ref(), request.generation_id)?;
        let chosen = classic.protocols.first();
        let differs = |asked: &Option<Str>, ours: &str| asked.as_ref().is_some_and(|asked| asked != ours);
        if differs(&request.protocol_type, CONSUMER_PROTOCOL_TYPE)
            || differs(&request.protocol_name, chosen.map_or("", |protocol| &protocol.name))
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let (id, session_timeout_ms) = (id.clone(), classic.session_timeout_ms);
        // One that has to give up partitions has rejoined already; it goes on from there.
        if self.target_epoch.epoch > current.epoch && current.state != MemberState::Revoking {
            self.await_join(env, &id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let assigned: Partitions =
            current.assigned.iter().map(|(topic, p)| (*topic, p.keys().copied().collect())).collect();
        let metadata = chosen.map(|protocol| protocol.metadata.clone()).unwrap_or_default();
        let assignment = match embedded::encode_assignment(&metadata, &assigned, &*env.catalog.topics) {
            Ok(Ok(assignment)) => assignment,
            Ok(Err(_)) | Err(_) => return Err(ErrorCode::UnknownServerError),
        };
        self.classic_synced(env, &id, session_timeout_ms);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
            ..Default::default()
        })
    }

    /// The member is there; it is told to rejoin if that would bring it further.
    pub(in crate::group) fn beat_classic(
        &mut self,
        env: &mut Env<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        let (id, classic, current) =
            self.classic_member(&request.member_id, request.group_instance_id.as_ref(), request.generation_id)?;
        let has_to_rejoin = match current.state {
            _ if current.epoch < self.target_epoch.epoch => true,
            MemberState::Revoking => true,
            MemberState::Waiting => !self.waits_for_others(id, current),
            MemberState::Stable | MemberState::Unknown => false,
        };
        let (id, session_timeout_ms) = (id.clone(), classic.session_timeout_ms);
        self.start_session(env, &id, session_timeout_ms);
        if has_to_rejoin {
            self.await_join(env, &id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether others have partitions that the member is meant to have.
    fn waits_for_others(&self, id: &Str, current: &Current) -> bool {
        let has = |topic, partition| current.assigned.get(topic).is_some_and(|held| held.contains_key(partition));
        self.target(id).iter().any(|(topic, partitions)| {
            partitions.iter().any(|p| !has(topic, p) && self.owners.contains_key(&(*topic, *p)))
        })
    }
}
