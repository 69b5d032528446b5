//! ShareGroupDescribe (KIP-932).

use corelane_coordinator::group::reject;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{ShareGroupDescribeRequest, ShareGroupDescribeResponse};

use crate::coordinator::with_group;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ShareGroupDescribeRequest) -> ShareGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        if group.is_empty() {
            groups.push(reject::share_describe(&group, ErrorCode::InvalidGroupId, None));
            continue;
        }
        let id = group.clone();
        let described = with_group(&context.shard, &group, move |groups, _| groups.share_group_describe(&id));
        groups.push(described.await.unwrap_or_else(|error| reject::share_describe(&group, error, None)));
    }
    if request.include_authorized_operations {
        groups.iter_mut().filter(|g| g.error_code == 0).for_each(|g| g.authorized_operations = operations::GROUP);
    }
    ShareGroupDescribeResponse { groups, ..Default::default() }
}
