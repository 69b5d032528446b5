//! OffsetCommit. From v10 on topics are named by id (KIP-848).

use std::time::Duration;

use core_pinning::time::timeout;
use corelane_acl::Operation;
use corelane_coordinator::group::reject;
use corelane_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use corelane_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::group_context::group_context;
use crate::coordinator::with_group;
use crate::kafka::offset_answers::{OffsetAnswers, TopicAnswers};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_allowed;

/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 10;

pub async fn handle(context: RequestContext, mut request: OffsetCommitRequest) -> OffsetCommitResponse {
    let by_id = context.version >= TOPIC_IDS_FROM;
    let image = context.shard.image();
    let asks_for_nothing = request.topics.is_empty();
    // The group sees what exists, under both name and id; the rest is answered here.
    let mut answers = OffsetAnswers::default();
    request.topics.retain_mut(|topic| {
        let (name, id) = (topic.name.clone(), topic.topic_id);
        let indexes = |partitions: Vec<OffsetCommitRequestPartition>| partitions.into_iter().map(|p| p.partition_index);
        match find_allowed(&context, Operation::Read, &image, by_id, &name, id) {
            Ok(found) => {
                topic.name = found.wire_name();
                topic.topic_id = found.uuid();
                let gone = topic.partitions.extract_if(.., |p| found.partition(p.partition_index).is_none()).collect();
                // Kafka leaves a topic out that is there and of which nothing is committed.
                if !Vec::is_empty(&gone) {
                    answers.refuse(&name, id, indexes(gone), ErrorCode::UnknownTopicOrPartition);
                }
                !topic.partitions.is_empty()
            }
            Err(error) => {
                answers.refuse(&name, id, indexes(std::mem::take(&mut topic.partitions)), error);
                false
            }
        }
    });
    let committed = match request.topics.is_empty() && !asks_for_nothing {
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
    let of_group = committed.topics.into_iter().map(|topic| {
        let name = if by_id { Str::EMPTY } else { topic.name };
        let id = if by_id { topic.topic_id } else { Uuid::ZERO };
        (name, id, topic.partitions.into_iter().map(|p| (p.partition_index, p.error_code)).collect())
    });
    let partition = |(partition_index, error_code)| OffsetCommitResponsePartition {
        partition_index,
        error_code,
        ..Default::default()
    };
    let topic = |(name, topic_id, partitions): TopicAnswers| OffsetCommitResponseTopic {
        name,
        topic_id,
        partitions: partitions.into_iter().map(partition).collect(),
        ..Default::default()
    };
    OffsetCommitResponse { topics: answers.merge(of_group).into_iter().map(topic).collect(), ..Default::default() }
}
