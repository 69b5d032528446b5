//! ElectLeaders (KIP-183, KIP-460). The one replica of a partition leads it, or its log did not open and nobody can.

use corelane_protocol::messages::elect_leaders_request::ElectLeadersRequestTopicPartitions;
use corelane_protocol::messages::elect_leaders_response::{
    ElectLeadersResponsePartitionResult, ElectLeadersResponseReplicaElectionResult,
};
use corelane_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::image::TopicImage;
use crate::kafka::leaders::Leaders;
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

/// Kafka: `ElectionType`.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub async fn handle(context: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let shard = &context.shard;
    if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
        return ElectLeadersResponse::default();
    }
    if request.timeout_ms <= 0 {
        return refuse(context.version, request, super::out_of_time());
    }
    let nobody = match request.election_type {
        PREFERRED => ErrorCode::PreferredLeaderNotAvailable,
        UNCLEAN => ErrorCode::EligibleLeadersNotAvailable,
        other => {
            let message = format!("Unknown election type {other}");
            return refuse(context.version, request, Refused::new(ErrorCode::InvalidRequest, message));
        }
    };
    let image = shard.image();
    let results = match request.topic_partitions {
        // Of all partitions only those are named that are not led as they should be.
        None => {
            let leaders = Leaders::of(shard, image.topics().map(|t| t.id)).await;
            let not_led = |topic: &TopicImage| -> Vec<ElectLeadersResponsePartitionResult> {
                let all = (0..topic.partitions).map(|index| (index, elect(shard, &leaders, topic, index, nobody)));
                let named = all.filter(|(_, error)| *error != ErrorCode::ElectionNotNeeded);
                named.map(|(index, error)| result(index as i32, refused(error))).collect()
            };
            image.topics().map(|topic| of_topic(topic.wire_name(), not_led(topic))).collect()
        }
        Some(asked) => {
            let topics = asked.iter().filter_map(|t| image.topic_named(&t.topic));
            let leaders = Leaders::of(shard, topics.map(|t| t.id)).await;
            let partition = |name: &Str, index: i32| {
                let Some(topic) = image.topic_named(name) else { return unknown(format!("No such topic as {name}")) };
                match topic.partition(index) {
                    Some(known) => refused(elect(shard, &leaders, topic, known, nobody)),
                    None => unknown(format!("No such partition as {name}-{index}")),
                }
            };
            let topic = |asked: ElectLeadersRequestTopicPartitions| {
                let name = asked.topic;
                let results = asked.partitions.into_iter().map(|index| result(index, partition(&name, index)));
                of_topic(name.clone(), results.collect())
            };
            asked.into_iter().map(topic).collect()
        }
    };
    ElectLeadersResponse { replica_election_results: results, ..Default::default() }
}

fn elect(shard: &Shard, leaders: &Leaders, topic: &TopicImage, partition: u32, nobody: ErrorCode) -> ErrorCode {
    match leaders.state(shard, topic, partition).leader {
        ..0 => nobody,
        _ => ErrorCode::ElectionNotNeeded,
    }
}

fn refused(error: ErrorCode) -> Refused {
    Refused::new(error, error.message())
}

fn unknown(message: String) -> Refused {
    Refused::new(ErrorCode::UnknownTopicOrPartition, message)
}

/// The whole request fails; the first version says so of each partition only.
fn refuse(version: i16, request: ElectLeadersRequest, why: Refused) -> ElectLeadersResponse {
    let topic = |asked: ElectLeadersRequestTopicPartitions| {
        let results = asked.partitions.into_iter().map(|index| result(index, why.clone()));
        of_topic(asked.topic, results.collect())
    };
    ElectLeadersResponse {
        error_code: if version == 0 { 0 } else { why.code.code() },
        replica_election_results: request.topic_partitions.into_iter().flatten().map(topic).collect(),
        ..Default::default()
    }
}

fn of_topic(
    topic: Str,
    partition_result: Vec<ElectLeadersResponsePartitionResult>,
) -> ElectLeadersResponseReplicaElectionResult {
    ElectLeadersResponseReplicaElectionResult { topic, partition_result, ..Default::default() }
}

fn result(partition_id: i32, why: Refused) -> ElectLeadersResponsePartitionResult {
    ElectLeadersResponsePartitionResult {
        partition_id,
        error_code: why.code.code(),
        error_message: Some(why.message.into()),
        ..Default::default()
    }
}
