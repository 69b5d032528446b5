//! DescribeGroups.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::group_context::group_context;
use crate::coordinator::ask_group;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let (client, id) = (group_context(&context), group.clone());
        let described = ask_group(&context.shard, &group, move |groups, _| groups.describe_groups(&client, &[id]));
        groups.extend(described.await.unwrap_or_else(|error| reject::describe_groups(&[group], error)));
    }
    if request.include_authorized_operations {
        groups.iter_mut().filter(|g| g.error_code == 0).for_each(|g| g.authorized_operations = operations::GROUP);
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}
