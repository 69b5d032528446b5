//! LeaveGroup.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::group_context::group_context;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let (group, client) = (request.group_id.clone(), group_context(&context));
    let left = with_group(&context.shard, &group, move |groups, now| groups.leave_group(now, &client, &request));
    left.await.unwrap_or_else(reject::leave)
}
