//! DeleteGroups.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut groups = request.groups_names;
    groups.sort_unstable();
    groups.dedup();
    let mut results = Vec::with_capacity(groups.len());
    for group in groups {
        let id = group.clone();
        let deleted = with_group(&context.shard, &group, move |groups, now| groups.delete_groups(now, &[id]));
        results.extend(deleted.await.unwrap_or_else(|error| reject::delete_groups(&[group], error)).results);
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
