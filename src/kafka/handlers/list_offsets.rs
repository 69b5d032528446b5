//! ListOffsets: every special timestamp, and look-up by time.

use std::collections::BTreeMap;

use corelane_protocol::messages::list_offsets_request::{
    ListOffsetsRequestListOffsetsPartition, ListOffsetsRequestListOffsetsTopic,
};
use corelane_protocol::messages::list_offsets_response::{
    ListOffsetsResponseListOffsetsPartitionResponse, ListOffsetsResponseListOffsetsTopicResponse,
};
use corelane_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};

use crate::kafka::each_partition::{each_partition, led_partition};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;
use crate::partition::OffsetSpec;

/// First version whose answer carries leader epochs.
const EPOCHS_FROM: i16 = 4;
const READ_COMMITTED: i8 = 1;
/// The replica id of who is no replica.
const CONSUMER: i32 = -1;

pub async fn handle(context: RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = context.shard.image();
    // Isolation is for consumers: brokers and tools see all there is (Kafka: `ReplicaManager.fetchOffset`).
    let committed = request.isolation_level == READ_COMMITTED && request.replica_id == CONSUMER;
    let topics = each_once(request.topics);
    let mut asked = Vec::new();
    for (name, partitions) in &topics {
        let found = find_topic(&image, false, name, Uuid::ZERO);
        for (partition, twice) in partitions {
            asked.push(match twice {
                true => Err(ErrorCode::InvalidRequest),
                false => OffsetSpec::from_timestamp(partition.timestamp, context.version).and_then(|spec| {
                    let key = led_partition(&context.shard, &found, partition.partition_index)?;
                    Ok((key, (spec, partition.current_leader_epoch, committed)))
                }),
            });
        }
    }
    let answers = each_partition(&context.shard, asked, |partition, (spec, epoch, committed)| async move {
        partition.list_offset(spec, epoch, committed).await
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
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsResponseListOffsetsTopicResponse {
            name,
            partitions: partitions.iter().map(|(p, _)| respond(p.partition_index)).collect(),
            ..Default::default()
        })
        .collect();
    ListOffsetsResponse { topics, ..Default::default() }
}

/// Topics with their partitions, and whether a partition was named twice: that one has one answer, an error.
type Asked = Vec<(Str, Vec<(ListOffsetsRequestListOffsetsPartition, bool)>)>;

fn each_once(topics: Vec<ListOffsetsRequestListOffsetsTopic>) -> Asked {
    let mut out = Asked::new();
    for topic in topics.into_iter().filter(|t| !t.partitions.is_empty()) {
        let place = out.iter().position(|(name, _)| *name == topic.name).unwrap_or(out.len());
        if place == out.len() {
            out.push((topic.name, Vec::new()));
        }
        let Some((_, partitions)) = out.get_mut(place) else { continue };
        let mut places: BTreeMap<i32, usize> =
            partitions.iter().enumerate().map(|(i, (p, _))| (p.partition_index, i)).collect();
        for partition in topic.partitions {
            match places.get(&partition.partition_index).and_then(|i| partitions.get_mut(*i)) {
                Some((_, twice)) => *twice = true,
                None => {
                    places.insert(partition.partition_index, partitions.len());
                    partitions.push((partition, false));
                }
            }
        }
    }
    out
}
