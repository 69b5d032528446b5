//! DescribeTopicPartitions (KIP-966): topics in pages.

use std::sync::Arc;

use corelane_acl::{Operation, ResourceType};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponseCursor, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use corelane_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use crate::controller::image::TopicImage;
use crate::controller::names::check_name;
use crate::kafka::leaders::Leaders;
use crate::kafka::operations;
use crate::kafka::request::RequestContext;

/// One page: at most this many partitions, whatever the client asks for (`max.request.partition.size.limit`).
pub async fn handle(
    context: RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let shard = &context.shard;
    let image = shard.image();
    let most = shard.config.broker().describe_partitions_max;
    let mut left = request.response_partition_limit.clamp(1, most) as u32;
    if let Some(cursor) = &request.cursor {
        let known = request.topics.is_empty() || request.topics.iter().any(|t| t.name == cursor.topic_name);
        if cursor.partition_index < 0 || !known {
            return refuse(&request);
        }
    }
    let (from, mut first) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.clone(), cursor.partition_index.max(0) as u32),
        None => ("".into(), 0),
    };
    let mut asked: Vec<(String, Option<Arc<TopicImage>>)> = match request.topics.is_empty() {
        true => image.topics_from(&from).map(|t| (t.name.to_string(), Some(t.clone()))).collect(),
        false => {
            let names = request.topics.iter().filter(|t| t.name.as_str() >= from.as_str());
            names.map(|t| (t.name.to_string(), image.topic_named(&t.name).cloned())).collect()
        }
    };
    asked.sort_by(|a, b| a.0.cmp(&b.0));
    asked.dedup_by(|a, b| a.0 == b.0);
    let hidden = asked.extract_if(.., |(name, _)| !context.may_topic(Operation::Describe, name));
    let hidden: Vec<String> = hidden.map(|(name, _)| name).filter(|_| !request.topics.is_empty()).collect();
    let leaders = Leaders::of(shard, asked.iter().filter_map(|(_, t)| t.as_ref().map(|t| t.id))).await;
    let leaders = leaders.seen_by(&context.client.listener, true);
    let mut response = DescribeTopicPartitionsResponse::default();
    for (name, topic) in asked {
        let start = if name == from.as_str() { std::mem::take(&mut first) } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, start));
            break;
        }
        let Some(topic) = topic else {
            let error = match check_name(&name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: error.code(),
                topic_authorized_operations: context.operations(ResourceType::Topic, &name),
                name: Some(name.into()),
                ..Default::default()
            });
            continue;
        };
        let end = topic.partitions.min(start.saturating_add(left));
        left -= end.saturating_sub(start);
        let partition = |index: u32| {
            let state = leaders.state(shard, &topic, index);
            DescribeTopicPartitionsResponsePartition {
                error_code: state.error.code(),
                partition_index: index as i32,
                leader_id: state.leader,
                leader_epoch: state.leader_epoch,
                replica_nodes: vec![state.broker],
                isr_nodes: vec![state.broker],
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                ..Default::default()
            }
        };
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(topic.wire_name()),
            topic_id: topic.uuid(),
            is_internal: shard.config.is_internal(&topic.name),
            partitions: (start..end).map(partition).collect(),
            topic_authorized_operations: context.operations(ResourceType::Topic, &topic.name),
            ..Default::default()
        });
        if end < topic.partitions {
            response.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    // Whether they are there it does not hear.
    response.topics.extend(hidden.into_iter().map(|name| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::TopicAuthorizationFailed.code(),
        name: Some(name.into()),
        topic_authorized_operations: operations::UNKNOWN,
        ..Default::default()
    }));
    response
}

/// A cursor that points nowhere: every topic has the error.
fn refuse(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name.clone()),
        topic_authorized_operations: operations::UNKNOWN,
        ..Default::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}

fn cursor(topic: String, partition: u32) -> DescribeTopicPartitionsResponseCursor {
    DescribeTopicPartitionsResponseCursor {
        topic_name: topic.into(),
        partition_index: partition as i32,
        ..Default::default()
    }
}
