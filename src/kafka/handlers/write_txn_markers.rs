//! WriteTxnMarkers: ends transactions on partitions as their coordinator, or a tool that ends a hanging one, says.

use std::collections::BTreeMap;

use corelane_protocol::messages::write_txn_markers_response::{
    WriteTxnMarkersResponseWritableTxnMarkerPartitionResult, WriteTxnMarkersResponseWritableTxnMarkerResult,
    WriteTxnMarkersResponseWritableTxnMarkerTopicResult,
};
use corelane_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId};

use crate::coordinator::write_markers;
use crate::kafka::each_partition::partition_of;
use crate::kafka::request::RequestContext;
use crate::kafka::topics::find_topic;
use crate::partition::Marker;

/// Errors by producer, topic and partition: a producer's markers are answered together, as in Kafka.
type Answers = BTreeMap<i64, BTreeMap<Str, BTreeMap<i32, ErrorCode>>>;

pub async fn handle(context: RequestContext, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let shard = &context.shard;
    let image = shard.image();
    let (mut answers, mut asked, mut markers) = (Answers::new(), Vec::new(), Vec::new());
    for marker in request.markers {
        let of_producer = answers.entry(marker.producer_id).or_default();
        let written = Marker {
            producer_id: ProducerId(marker.producer_id),
            producer_epoch: ProducerEpoch(marker.producer_epoch),
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.transaction_result,
            transaction_version: i16::from(marker.transaction_version),
        };
        for topic in marker.topics {
            let found = find_topic(&image, false, &topic.name, Uuid::ZERO);
            let of_topic = of_producer.entry(topic.name.clone()).or_default();
            for index in topic.partition_indexes {
                match partition_of(&found, index) {
                    // A record of nobody: Kafka fails in the middle of its work (`MemoryRecordsBuilder`).
                    Ok(_) if marker.producer_id < 0 => {
                        of_topic.insert(index, ErrorCode::InvalidProducerIdMapping);
                    }
                    Ok(_) if marker.producer_epoch < 0 => {
                        of_topic.insert(index, ErrorCode::InvalidProducerEpoch);
                    }
                    Ok(key) => {
                        asked.push((marker.producer_id, topic.name.clone(), index));
                        markers.push((key, written));
                    }
                    Err(error) => drop(of_topic.insert(index, error)),
                }
            }
        }
    }
    let written = write_markers(shard, markers).await;
    for ((producer, topic, index), result) in asked.into_iter().zip(written) {
        let of_topic = answers.entry(producer).or_default().entry(topic).or_default();
        of_topic.insert(index, result.map_or_else(|error| error, |_: Offset| ErrorCode::None));
    }
    let partition =
        |(partition_index, error): (i32, ErrorCode)| WriteTxnMarkersResponseWritableTxnMarkerPartitionResult {
            partition_index,
            error_code: error.code(),
            ..Default::default()
        };
    let topic = |(name, partitions): (Str, BTreeMap<i32, ErrorCode>)| {
        let partitions = partitions.into_iter().map(partition).collect();
        WriteTxnMarkersResponseWritableTxnMarkerTopicResult { name, partitions, ..Default::default() }
    };
    let markers = answers.into_iter().map(|(producer_id, topics)| WriteTxnMarkersResponseWritableTxnMarkerResult {
        producer_id,
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    });
    WriteTxnMarkersResponse { markers: markers.collect(), ..Default::default() }
}
