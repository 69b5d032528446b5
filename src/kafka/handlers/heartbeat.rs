//! Heartbeat.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::coordinator::ask_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    let group = request.group_id.clone();
    let beat = ask_group(&context.shard, &group, move |groups, now| groups.heartbeat(now, &request));
    beat.await.unwrap_or_else(reject::heartbeat)
}
