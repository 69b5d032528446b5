//! ConsumerGroupHeartbeat (KIP-848).

use corelane_coordinator::group::reject;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::group_context::group_context;
use crate::controller::features::GROUP_VERSION;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    if context.shard.image().feature(GROUP_VERSION) < 1 {
        return reject::consumer_heartbeat(ErrorCode::UnsupportedVersion);
    }
    let (group, client) = (request.group_id.clone(), group_context(&context));
    let beat =
        with_group(&context.shard, &group, move |groups, now| groups.consumer_group_heartbeat(now, &client, &request));
    beat.await.unwrap_or_else(reject::consumer_heartbeat)
}
