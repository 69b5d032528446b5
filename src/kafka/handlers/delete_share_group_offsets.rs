//! DeleteShareGroupOffsets (KIP-932): a share group without members forgets where it is in topics.

use std::collections::BTreeSet;

use corelane_coordinator::group::ShareOffsetsDeletion;
use corelane_protocol::messages::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use crate::coordinator::{advance_group, delete_share_states, error_among, with_group};
use crate::kafka::request::RequestContext;

pub async fn handle(
    context: RequestContext,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let group = request.group_id.clone();
    if group.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let shard = &context.shard;
    let begun = with_group(shard, &group, move |groups, now| groups.begin_delete_share_offsets(now, &request)).await;
    let ShareOffsetsDeletion { mut response, delete } = match begun {
        Ok(begun) => begun,
        Err(error) => return refuse(error),
    };
    if response.error_code != 0 || delete.is_empty() {
        return response;
    }
    let answers = delete_share_states(shard, &group, &delete).await;
    let image = shard.image();
    let mut deleted: BTreeSet<Uuid> = BTreeSet::new();
    let mut done = Vec::new();
    for topic_id in delete.keys() {
        let error = answers.get(topic_id).and_then(error_among);
        let topic = DeleteShareGroupOffsetsResponseTopic {
            topic_id: *topic_id,
            topic_name: image.topic(TopicId(topic_id.0)).map(|topic| topic.wire_name()).unwrap_or_default(),
            error_code: error.map_or(0, ErrorCode::code),
            error_message: error.map(|error| Str::from_static(error.message())),
            ..Default::default()
        };
        match error {
            Some(_) => response.responses.push(topic),
            None => {
                deleted.insert(*topic_id);
                done.push(topic);
            }
        }
    }
    if !deleted.is_empty() {
        let id = group.clone();
        let ended = advance_group(shard, &group, move |groups, now| groups.share_offsets_deleted(now, &id, &deleted));
        if let Err(error) = ended.await {
            return refuse(error);
        }
    }
    done.append(&mut response.responses);
    DeleteShareGroupOffsetsResponse { responses: done, ..response }
}

fn refuse(error: ErrorCode) -> DeleteShareGroupOffsetsResponse {
    DeleteShareGroupOffsetsResponse {
        error_code: error.code(),
        error_message: Some(Str::from_static(error.message())),
        ..Default::default()
    }
}
