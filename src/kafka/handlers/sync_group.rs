//! SyncGroup.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::group_context::group_context;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    let (group, client) = (request.group_id.clone(), group_context(&context));
    let synced = with_group(&context.shard, &group, move |groups, now| groups.sync_group(now, &client, &request));
    synced.await.unwrap_or_else(reject::sync)
}
