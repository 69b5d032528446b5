//! ListGroups, of all coordinators of this broker.

use corelane_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::coordinator::every_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    match every_group(&context.shard, move |groups| groups.list_groups(&request)).await {
        Ok(groups) => ListGroupsResponse { groups, ..Default::default() },
        Err(error) => ListGroupsResponse { error_code: error.code(), ..Default::default() },
    }
}
