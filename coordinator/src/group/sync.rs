//! SyncGroup.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelane_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use corelane_protocol::{ErrorCode, Str};

use super::classic::ClassicGroup;
use super::coordinator::GroupCoordinator;
use super::env::Env;
use super::outcome::{Effects, Outcome, Reply, WaitToken};
use super::state::GroupState;
use super::writes::OnWritten;
use super::{RequestContext, reject};
use crate::Now;

/// The first version that must name protocol type and protocol.
const PROTOCOL_REQUIRED_FROM: i16 = 5;

impl GroupCoordinator {
    /// A member asks for its assignment; the leader brings everyone's. Answered once the leader's is stored.
    pub fn sync_group(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &SyncGroupRequest,
    ) -> Outcome<SyncGroupResponse> {
        let named = request.protocol_type.is_some() && request.protocol_name.is_some();
        if context.api_version >= PROTOCOL_REQUIRED_FROM && !named {
            return Outcome::now(reject::sync(ErrorCode::InconsistentGroupProtocol));
        }
        if request.group_id.is_empty() {
            return Outcome::now(reject::sync(ErrorCode::InvalidGroupId));
        }
        if self.groups.consumer(&request.group_id).is_some() {
            return self.sync_consumer_group(now, request);
        }
        let token = self.next_token();
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        let reply = match groups.classic_mut(&request.group_id) {
            Some(group) if !group.is_in(GroupState::Empty) => group.sync(&mut env, request, token),
            _ => Reply::Now(reject::sync(ErrorCode::UnknownMemberId)),
        };
        self.settle(now, &mut out);
        match reply {
            Reply::Now(_) => Outcome { reply, effects: out },
            Reply::Later(token) => Outcome::from_effects(token, out),
        }
    }
}

impl ClassicGroup {
    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        let differ = |asked: &Option<Str>, ours: &Option<Str>| asked.is_some() && ours.is_some() && asked != ours;
        if request.generation_id != self.generation {
            Err(ErrorCode::IllegalGeneration)
        } else if differ(&request.protocol_type, &self.protocol_type)
            || differ(&request.protocol_name, &self.protocol_name)
        {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else {
            Ok(())
        }
    }

    fn sync(&mut self, env: &mut Env<'_>, request: &SyncGroupRequest, token: WaitToken) -> Reply<SyncGroupResponse> {
        if let Err(error) = self.check_sync(request) {
            return Reply::Now(reject::sync(error));
        }
        let member_id = &request.member_id;
        match self.state {
            GroupState::Empty => Reply::Now(reject::sync(ErrorCode::UnknownMemberId)),
            GroupState::PreparingRebalance => Reply::Now(reject::sync(ErrorCode::RebalanceInProgress)),
            GroupState::CompletingRebalance => {
                let superseded = self.members.get_mut(member_id).and_then(|member| member.awaiting_sync.replace(token));
                if let Some(superseded) = superseded {
                    env.complete_sync(superseded, ErrorCode::RebalanceInProgress);
                }
                self.sync_arrived(member_id);
                if self.is_leader(member_id) {
                    self.store_assignment(env, request);
                }
                Reply::Later(token)
            }
            GroupState::Stable => {
                self.sync_arrived(member_id);
                let member = self.members.get(member_id);
                Reply::Now(SyncGroupResponse {
                    protocol_type: self.protocol_type.clone(),
                    protocol_name: self.protocol_name.clone(),
                    assignment: member.map(|member| member.assignment.clone()).unwrap_or_default(),
                    ..Default::default()
                })
            }
        }
    }

    /// Members that the leader left out get an empty assignment; what it assigned to others is dropped.
    fn store_assignment(&mut self, env: &mut Env<'_>, request: &SyncGroupRequest) {
        let mut assignments: BTreeMap<Str, Bytes> = BTreeMap::new();
        for assigned in &request.assignments {
            if let Some((member_id, _)) = self.members.get_key_value(&assigned.member_id) {
                assignments.insert(member_id.clone(), Bytes::copy_from_slice(&assigned.assignment));
            }
        }
        let record = self.to_record(Some(&assignments));
        let on_written =
            OnWritten::Assignment { incarnation: self.incarnation, generation: self.generation, assignments };
        env.write(&self.id, record.map(|record| vec![record]), on_written, Vec::new());
    }
}
