//! StreamsGroupDescribe (KIP-1071).

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::coordinator::ask_group;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: StreamsGroupDescribeRequest) -> StreamsGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    // as Kafka: what is no group comes first
    let (none, named): (Vec<Str>, Vec<Str>) = request.group_ids.into_iter().partition(|group_id| group_id.is_empty());
    for group_id in none.into_iter().chain(named) {
        let described = if group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            let id = group_id.clone();
            ask_group(&context.shard, &group_id, move |groups, _| groups.describe_streams_group(&id)).await
        };
        groups.push(described.unwrap_or_else(|error| reject::describe_streams_group(&group_id, error)));
    }
    if request.include_authorized_operations {
        groups.iter_mut().filter(|g| g.error_code == 0).for_each(|g| g.authorized_operations = operations::GROUP);
    }
    StreamsGroupDescribeResponse { groups, ..Default::default() }
}
