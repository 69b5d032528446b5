//! DeleteRecords: moves log starts.

use std::collections::BTreeMap;

use corelane_protocol::messages::delete_records_request::DeleteRecordsRequestDeleteRecordsTopic;
use corelane_protocol::messages::delete_records_response::{
    DeleteRecordsResponseDeleteRecordsPartitionResult, DeleteRecordsResponseDeleteRecordsTopicResult,
};
use corelane_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};

use crate::kafka::each_partition::{each_partition, led_partition};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;

pub async fn handle(context: RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = context.shard.image();
    let topics = each_once(request.topics);
    let mut asked = Vec::new();
    for (name, partitions) in &topics {
        let found = find_topic(&image, false, name, Uuid::ZERO);
        // Kafka: records of internal topics are not for clients to delete.
        let internal = found.as_ref().is_ok_and(|topic| context.shard.config.is_internal(&topic.name));
        asked.extend(partitions.iter().map(|(index, offset)| {
            let partition = led_partition(&context.shard, &found, *index)?;
            if internal { Err(ErrorCode::InvalidTopicException) } else { Ok((partition, *offset)) }
        }));
    }
    let answers =
        each_partition(
            &context.shard,
            asked,
            |partition, offset| async move { partition.delete_records(offset).await },
        );
    let mut answers = answers.await.into_iter();
    let mut respond = |partition_index: i32| match answers.next() {
        Some(Ok(low)) => DeleteRecordsResponseDeleteRecordsPartitionResult {
            partition_index,
            low_watermark: low.0,
            ..Default::default()
        },
        failed => DeleteRecordsResponseDeleteRecordsPartitionResult {
            partition_index,
            low_watermark: -1,
            error_code: super::error_of(failed).code(),
            ..Default::default()
        },
    };
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| DeleteRecordsResponseDeleteRecordsTopicResult {
            name,
            partitions: partitions.keys().map(|index| respond(*index)).collect(),
            ..Default::default()
        })
        .collect();
    DeleteRecordsResponse { topics, ..Default::default() }
}

/// Of a partition that is named twice the last offset counts, as in Kafka.
fn each_once(topics: Vec<DeleteRecordsRequestDeleteRecordsTopic>) -> BTreeMap<Str, BTreeMap<i32, i64>> {
    let mut out: BTreeMap<Str, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in topics.into_iter().filter(|t| !t.partitions.is_empty()) {
        let partitions = topic.partitions.iter().map(|p| (p.partition_index, p.offset));
        out.entry(topic.name).or_default().extend(partitions);
    }
    out
}
