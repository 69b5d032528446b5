//! DeleteGroups.

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::coordinator::{delete_share_states, error_among, with_group};
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut groups = request.groups_names;
    groups.sort_unstable();
    groups.dedup();
    let mut results = Vec::with_capacity(groups.len());
    for group in groups {
        // A share group is more than the coordinator knows of it.
        if let Err(error) = delete_share_states_of(&context, &group).await {
            results.extend(reject::delete_groups(&[group], error).results);
            continue;
        }
        let id = group.clone();
        let deleted = with_group(&context.shard, &group, move |groups, now| groups.delete_groups(now, &[id]));
        results.extend(deleted.await.unwrap_or_else(|error| reject::delete_groups(&[group], error)).results);
    }
    DeleteGroupsResponse { results, ..Default::default() }
}

/// Only once the states of all its partitions are gone may a share group go. Other groups pass.
async fn delete_share_states_of(context: &RequestContext, group: &Str) -> Result<(), ErrorCode> {
    let id = group.clone();
    let shard = &context.shard;
    let begun = with_group(shard, group, move |groups, now| groups.begin_delete_share_group(now, &id)).await?;
    if let Some(error) = ErrorCode::from_code(begun.error_code).filter(|error| *error != ErrorCode::None) {
        return Err(error);
    }
    let answers = delete_share_states(shard, group, &begun.delete).await;
    answers.values().find_map(error_among).map_or(Ok(()), Err)
}
