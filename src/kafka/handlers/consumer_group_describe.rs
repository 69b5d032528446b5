//! ConsumerGroupDescribe (KIP-848).

use corelane_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupDescribeResponseDescribedGroup,
};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::features::GROUP_VERSION;
use crate::coordinator::ask_group;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let refused = |group_id, error: ErrorCode| ConsumerGroupDescribeResponseDescribedGroup {
        group_id,
        error_code: error.code(),
        ..Default::default()
    };
    if context.shard.image().feature(GROUP_VERSION) < 1 {
        let groups = request.group_ids.into_iter().map(|id| refused(id, ErrorCode::UnsupportedVersion));
        return ConsumerGroupDescribeResponse { groups: groups.collect(), ..Default::default() };
    }
    let mut groups = Vec::new();
    // Those without a name are answered first, as Kafka does.
    let (nameless, named): (Vec<Str>, Vec<Str>) = request.group_ids.into_iter().partition(|id| id.is_empty());
    for group_id in nameless.into_iter().chain(named) {
        let described = if group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            let id = group_id.clone();
            ask_group(&context.shard, &group_id, move |groups, _| groups.describe_consumer_group(&id)).await
        };
        groups.push(described.unwrap_or_else(|error| refused(group_id, error)));
    }
    if request.include_authorized_operations {
        groups.iter_mut().filter(|g| g.error_code == 0).for_each(|g| g.authorized_operations = operations::GROUP);
    }
    ConsumerGroupDescribeResponse { groups, ..Default::default() }
}
