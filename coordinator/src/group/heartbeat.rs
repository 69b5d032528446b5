//! Heartbeat.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::coordinator::GroupCoordinator;
use super::outcome::Effects;
use super::reject;
use super::state::GroupState;
use crate::Now;

impl GroupCoordinator {
    /// A member says that it is there, and hears whether it has to rejoin. Never waits and never writes.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> HeartbeatResponse {
        let result = if request.group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            self.check_heartbeat(now, request)
        };
        reject::heartbeat(result.err().unwrap_or(ErrorCode::None))
    }

    fn check_heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        let mut out = Effects::default();
        let (groups, mut env) = self.parts(now, &mut out);
        if let Some(group) = groups.consumer_mut(&request.group_id) {
            return group.beat_classic(&mut env, request);
        }
        let group = groups.classic_mut(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match group.state() {
            GroupState::Empty => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => {
                group.restart_session(&mut env, &request.member_id);
                Err(ErrorCode::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                group.restart_session(&mut env, &request.member_id);
                Ok(())
            }
        }
    }
}
