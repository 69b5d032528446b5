//! WriteTxnMarkers: ends transactions on partitions as their coordinator, or a tool that ends a hanging one, says.

use std::collections::{BTreeMap, BTreeSet};

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

/// Errors by producer, topic and partition: a producer's markers are answered together, as in Kafka, and one of which no partition is
/// asked for not at all.
#[derive(Default)]
struct Answers(BTreeMap<i64, BTreeMap<Str, BTreeMap<i32, ErrorCode>>>);

impl Answers {
    fn set(&mut self, (producer, topic, partition): (i64, Str, i32), error: ErrorCode) {
        self.0.entry(producer).or_default().entry(topic).or_default().insert(partition, error);
    }
}

pub async fn handle(context: RequestContext, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let shard = &context.shard;
    let image = shard.image();
    let (mut answers, mut asked, mut markers) = (Answers::default(), Vec::new(), Vec::new());
    for marker in request.markers {
        let written = Marker {
            producer_id: ProducerId(marker.producer_id),
            producer_epoch: ProducerEpoch(marker.producer_epoch),
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.transaction_result,
            transaction_version: i16::from(marker.transaction_version),
        };
        // Named twice, it is marked once.
        let mut marked = BTreeSet::new();
        for topic in marker.topics {
            let found = find_topic(&image, false, &topic.name, Uuid::ZERO);
            for index in topic.partition_indexes {
                let place = (marker.producer_id, topic.name.clone(), index);
                match partition_of(&found, index) {
                    // A record of nobody: Kafka fails in the middle of its work (`MemoryRecordsBuilder`).
                    Ok(_) if marker.producer_id < 0 => answers.set(place, ErrorCode::InvalidProducerIdMapping),
                    Ok(_) if marker.producer_epoch < 0 => answers.set(place, ErrorCode::InvalidProducerEpoch),
                    Ok(key) => {
                        if marked.insert(key) {
                            asked.push(place);
                            markers.push((key, written));
                        }
                    }
                    Err(error) => answers.set(place, error),
                }
            }
        }
    }
    let written = write_markers(shard, markers).await;
    for (place, result) in asked.into_iter().zip(written) {
        answers.set(place, result.map_or_else(|error| error, |_: Offset| ErrorCode::None));
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
    let markers = answers.0.into_iter().map(|(producer_id, topics)| WriteTxnMarkersResponseWritableTxnMarkerResult {
        producer_id,
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    });
    WriteTxnMarkersResponse { markers: markers.collect(), ..Default::default() }
}
