//! OffsetCommit. From v10 on topics are named by id (KIP-848).

use std::time::Duration;

use core_pinning::time::timeout;
use corelane_coordinator::group::reject;
use corelane_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::group_context::group_context;
use crate::coordinator::with_group;
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 10;

pub async fn handle(context: RequestContext, mut request: OffsetCommitRequest) -> OffsetCommitResponse {
    let by_id = context.version >= TOPIC_IDS_FROM;
    let image = context.shard.image();
    let asked: Vec<(Str, Uuid, Vec<i32>)> = request
        .topics
        .iter()
        .map(|t| (t.name.clone(), t.topic_id, t.partitions.iter().map(|p| p.partition_index).collect()))
        .collect();
    // The group sees what exists, under both name and id; the rest is answered here.
    let mut unknown = ErrorCode::UnknownTopicOrPartition;
    request.topics.retain_mut(|topic| match find_topic(&image, by_id, &topic.name, topic.topic_id) {
        Ok(found) => {
            topic.name = found.wire_name();
            topic.topic_id = found.uuid();
            topic.partitions.retain(|p| found.partition(p.partition_index).is_some());
            !topic.partitions.is_empty()
        }
        Err(error) => {
            unknown = error;
            false
        }
    });
    let seen: Vec<_> = request.topics.iter().map(|t| (t.name.clone(), t.topic_id)).collect();
    let committed = match request.topics.is_empty() && !asked.is_empty() {
        true => OffsetCommitResponse::default(),
        false => {
            let (group, client) = (request.group_id.clone(), group_context(&context));
            let rejected = request.clone();
            let call =
                with_group(&context.shard, &group, move |groups, now| groups.offset_commit(now, &client, &request));
            let limit = Duration::from_millis(context.shard.config.broker().offsets.commit_timeout_ms.max(0) as u64);
            // Kafka's answer to a write that takes too long: ask again.
            let done = timeout(limit, call).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable));
            done.unwrap_or_else(|error| reject::offset_commit(&rejected, error))
        }
    };
    let code = |name: &Str, id: Uuid, index: i32| -> i16 {
        let of_topic =
            seen.iter().zip(&committed.topics).filter(|((n, i), _)| if by_id { *i == id } else { n == name });
        let partition = of_topic.flat_map(|(_, t)| &t.partitions).find(|p| p.partition_index == index);
        partition.map_or(unknown.code(), |p| p.error_code)
    };
    // Kafka leaves a topic out that is there and of which nothing is committed.
    let told = |name: &Str, id: Uuid| find_topic(&image, by_id, name, id).is_err();
    let asked = asked.iter().filter(|(name, id, indexes)| !indexes.is_empty() || told(name, *id));
    let topics = asked.map(|(name, topic_id, indexes)| OffsetCommitResponseTopic {
        name: name.clone(),
        topic_id: *topic_id,
        partitions: indexes
            .iter()
            .map(|index| OffsetCommitResponsePartition {
                partition_index: *index,
                error_code: code(name, *topic_id, *index),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}
