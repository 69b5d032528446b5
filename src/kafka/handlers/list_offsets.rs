//! ListOffsets: every special timestamp, and look-up by time.

use corelane_protocol::messages::list_offsets_response::{
    ListOffsetsResponseListOffsetsPartitionResponse, ListOffsetsResponseListOffsetsTopicResponse,
};
use corelane_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use corelane_protocol::{ErrorCode, Uuid};

use crate::kafka::each_partition::{each_partition, partition_of};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;
use crate::partition::OffsetSpec;

/// First version whose answer carries leader epochs.
const EPOCHS_FROM: i16 = 4;

pub async fn handle(context: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = context.shard.image();
    let mut asked = Vec::new();
    for topic in &request.topics {
        let found = find_topic(&image, false, &topic.name, Uuid::ZERO);
        for (index, partition) in topic.partitions.iter().enumerate() {
            // Kafka answers a partition that is named twice with INVALID_REQUEST.
            let named_before = |p: i32| topic.partitions.iter().take(index).any(|other| other.partition_index == p);
            asked.push(match named_before(partition.partition_index) {
                true => Err(ErrorCode::InvalidRequest),
                false => partition_of(&found, partition.partition_index).and_then(|key| {
                    let spec = OffsetSpec::from_timestamp(partition.timestamp, context.version)?;
                    Ok((key, (spec, partition.current_leader_epoch)))
                }),
            });
        }
    }
    let answers = each_partition(&context.shard, asked, |partition, (spec, epoch)| async move {
        partition.list_offset(spec, epoch).await
    });
    let mut answers = answers.await.into_iter();
    let mut respond = |partition_index: i32| match answers.next() {
        Some(Ok(at)) => ListOffsetsResponseListOffsetsPartitionResponse {
            partition_index,
            timestamp: at.timestamp,
            offset: at.offset,
            leader_epoch: if context.version >= EPOCHS_FROM { at.leader_epoch } else { -1 },
            ..Default::default()
        },
        failed => ListOffsetsResponseListOffsetsPartitionResponse {
            partition_index,
            error_code: super::error_of(failed).code(),
            ..Default::default()
        },
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| ListOffsetsResponseListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic.partitions.iter().map(|p| respond(p.partition_index)).collect(),
            ..Default::default()
        })
        .collect();
    ListOffsetsResponse { topics, ..Default::default() }
}
