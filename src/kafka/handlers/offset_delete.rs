//! OffsetDelete (KIP-496).

use std::collections::BTreeMap;

use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use corelane_protocol::{ErrorCode, Str};

use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, mut request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = context.shard.image();
    // Partitions that do not exist are answered here; the group sees the others.
    let mut unknown: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for topic in &mut request.topics {
        let known = image.topic_named(&topic.name);
        let gone = topic.partitions.extract_if(.., |p| known.is_none_or(|t| t.partition(p.partition_index).is_none()));
        let gone: Vec<i32> = gone.map(|p| p.partition_index).collect();
        if !gone.is_empty() {
            unknown.insert(topic.name.clone(), gone);
        }
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    let group = request.group_id.clone();
    let deleted = with_group(&context.shard, &group, move |groups, now| groups.offset_delete(now, &request));
    let mut response = deleted.await.unwrap_or_else(reject::offset_delete);
    if response.error_code != 0 {
        return response;
    }
    for (name, indexes) in unknown {
        let partitions = indexes.into_iter().map(|partition_index| OffsetDeleteResponsePartition {
            partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
        });
        match response.topics.iter_mut().find(|t| t.name == name) {
            Some(topic) => topic.partitions.extend(partitions),
            None => response.topics.push(OffsetDeleteResponseTopic { name, partitions: partitions.collect() }),
        }
    }
    response
}
