//! DeleteRecords: moves log starts.

use corelane_protocol::messages::delete_records_response::{
    DeleteRecordsResponseDeleteRecordsPartitionResult, DeleteRecordsResponseDeleteRecordsTopicResult,
};
use corelane_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use corelane_protocol::{ErrorCode, Uuid};

use crate::kafka::each_partition::{each_partition, partition_of};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;

pub async fn handle(context: RequestContext, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = context.shard.image();
    let mut asked = Vec::new();
    for topic in &request.topics {
        // Kafka: records of internal topics are not for clients to delete.
        let found = find_topic(&image, false, &topic.name, Uuid::ZERO)
            .and_then(|t| if t.is_internal() { Err(ErrorCode::InvalidTopicException) } else { Ok(t) });
        asked.extend(topic.partitions.iter().map(|p| Ok((partition_of(&found, p.partition_index)?, p.offset))));
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
    let topics = request
        .topics
        .into_iter()
        .map(|topic| DeleteRecordsResponseDeleteRecordsTopicResult {
            name: topic.name,
            partitions: topic.partitions.iter().map(|p| respond(p.partition_index)).collect(),
            ..Default::default()
        })
        .collect();
    DeleteRecordsResponse { topics, ..Default::default() }
}
