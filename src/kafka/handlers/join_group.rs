//! JoinGroup.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::group_context::group_context;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let (version, member) = (context.version, request.member_id.clone());
    let (group, client) = (request.group_id.clone(), group_context(&context));
    let joined = with_group(&context.shard, &group, move |groups, now| groups.join_group(now, &client, &request));
    joined.await.unwrap_or_else(|error| reject::join(version, &member, error))
}
