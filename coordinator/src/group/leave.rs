//! LeaveGroup.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    LeaveGroupRequest, LeaveGroupRequestMemberIdentity, LeaveGroupResponse, LeaveGroupResponseMemberResponse,
};

use super::classic::ClassicGroup;
use super::coordinator::GroupCoordinator;
use super::env::Env;
use super::outcome::{Effects, Outcome, Reply};
use super::state::GroupState;
use super::{RequestContext, reject};
use crate::Now;

/// The first version with a list of members; before, the request is about one.
const MEMBERS_FROM: i16 = 3;

impl GroupCoordinator {
    /// Members leave, or an administrator removes static members by their instance ids. Answered when what it changes in the
    /// log (the group being empty) is stored.
    pub fn leave_group(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &LeaveGroupRequest,
    ) -> Outcome<LeaveGroupResponse> {
        if request.group_id.is_empty() {
            return Outcome::now(reject::leave(ErrorCode::InvalidGroupId));
        }
        let mut normal = request.clone();
        if context.api_version < MEMBERS_FROM {
            let member_id = request.member_id.clone();
            normal.members = vec![LeaveGroupRequestMemberIdentity { member_id, ..Default::default() }];
        }
        if let Some(outcome) = self.leave_consumer_group_by_name(now, context, &normal) {
            return outcome;
        }
        let token = self.next_token();
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        let response = match groups.classic_mut(&request.group_id) {
            Some(group) => group.leave(&mut env, &normal),
            None => reject::leave_unknown(&normal),
        };
        let response = fit(context.api_version, response);
        let reply = match out.writes.last() {
            Some(write) => {
                self.writes.reply_after(write.id, token, response);
                Reply::Later(token)
            }
            None => Reply::Now(response),
        };
        self.settle(now, &mut out);
        match reply {
            Reply::Now(_) => Outcome { reply, effects: out },
            Reply::Later(token) => Outcome::from_effects(token, out),
        }
    }
}

/// Before the list of members the only member's error is the response's.
pub(super) fn fit(api_version: i16, response: LeaveGroupResponse) -> LeaveGroupResponse {
    if api_version >= MEMBERS_FROM {
        return response;
    }
    let members = response.members.iter().map(|member| member.error_code);
    let error_code = members.chain([response.error_code]).find(|code| *code != 0).unwrap_or(0);
    LeaveGroupResponse { error_code, members: Vec::new(), ..response }
}

impl ClassicGroup {
    fn leave(&mut self, env: &mut Env<'_>, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        let mut members = Vec::with_capacity(request.members.len());
        let mut someone_left = false;
        for leaving in &request.members {
            let error = self.remove_leaving(env, leaving).err().unwrap_or(ErrorCode::None);
            someone_left |= error == ErrorCode::None;
            members.push(LeaveGroupResponseMemberResponse {
                member_id: leaving.member_id.clone(),
                group_instance_id: leaving.group_instance_id.clone(),
                error_code: error.code(),
                ..Default::default()
            });
        }
        if someone_left {
            match self.state {
                GroupState::Stable | GroupState::CompletingRebalance => self.rebalance_or_complete(env),
                GroupState::PreparingRebalance => self.complete_if_all_joined(env),
                GroupState::Empty => {}
            }
        }
        LeaveGroupResponse { members, ..Default::default() }
    }

    fn remove_leaving(
        &mut self,
        env: &mut Env<'_>,
        leaving: &LeaveGroupRequestMemberIdentity,
    ) -> Result<(), ErrorCode> {
        let instance_id = leaving.group_instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            // Without a member id it is an administrator who asks.
            let by_instance = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            by_instance.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else {
            if !self.pending_join.contains_key(&leaving.member_id) {
                self.check_member(&leaving.member_id, instance_id)?;
            }
            leaving.member_id.clone()
        };
        self.remove(env, &member_id);
        Ok(())
    }
}
