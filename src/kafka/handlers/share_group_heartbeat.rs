//! ShareGroupHeartbeat (KIP-932).

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use corelane_protocol::{ErrorCode, Str};

use super::group_context::group_context;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

/// Java's longest member id: a UUID of its own kind, in text.
const MEMBER_ID_MAX: usize = 36;

pub async fn handle(context: RequestContext, request: ShareGroupHeartbeatRequest) -> ShareGroupHeartbeatResponse {
    if request.member_id.is_empty() || request.member_id.encode_utf16().count() > MEMBER_ID_MAX {
        let message = Str::from_static("Invalid member id in the request.");
        return reject::share_heartbeat(ErrorCode::InvalidRequest, Some(message));
    }
    let (group, client) = (request.group_id.clone(), group_context(&context));
    let beat =
        with_group(&context.shard, &group, move |groups, now| groups.share_group_heartbeat(now, &client, &request));
    beat.await.unwrap_or_else(|error| reject::share_heartbeat(error, Some(Str::from_static(error.message()))))
}
