//! AlterPartitionReassignments (KIP-455): checked as Kafka's controller checks it. A partition has one replica, and the node that
//! has it is the only one, so an assignment is either the one there is or one that is refused.

use std::rc::Rc;

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequestReassignablePartition;
use corelane_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponseReassignablePartitionResponse,
    AlterPartitionReassignmentsResponseReassignableTopicResponse,
};
use corelane_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use crate::controller::Refused;
use crate::controller::image::{TopicImage, owner};
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

pub async fn handle(
    context: RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    if request.topics.is_empty() {
        return AlterPartitionReassignmentsResponse::default();
    }
    let late = request.timeout_ms <= 0;
    let (shard, may_change) = (&context.shard, request.allow_replication_factor_change);
    let image = shard.image();
    let topics = request.topics.into_iter().map(|asked| {
        let topic = image.topic_named(&asked.name);
        let partition = |partition: AlterPartitionReassignmentsRequestReassignablePartition| {
            let result = match topic {
                _ if late => Err(super::out_of_time()),
                None => Err(unknown(format!("Unable to find a topic named {}.", asked.name))),
                Some(topic) => reassign(shard, topic, &partition, may_change),
            };
            let (error_code, error_message) = super::outcome_of(result);
            AlterPartitionReassignmentsResponseReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message,
                ..Default::default()
            }
        };
        AlterPartitionReassignmentsResponseReassignableTopicResponse {
            partitions: asked.partitions.into_iter().map(partition).collect(),
            name: asked.name,
            ..Default::default()
        }
    });
    let responses = topics.collect();
    let whole = if late { Err(super::out_of_time()) } else { Ok(()) };
    let (error_code, error_message) = super::outcome_of(whole);
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: late || may_change,
        error_code,
        error_message,
        responses,
        ..Default::default()
    }
}

fn reassign(
    shard: &Rc<Shard>,
    topic: &TopicImage,
    asked: &AlterPartitionReassignmentsRequestReassignablePartition,
    may_change_replication_factor: bool,
) -> Result<(), Refused> {
    let index = topic
        .partition(asked.partition_index)
        .ok_or_else(|| unknown(format!("Unable to find partition {}:{}.", topic.name, asked.partition_index)))?;
    let Some(replicas) = &asked.replicas else {
        let code = ErrorCode::NoReassignmentInProgress;
        return Err(Refused::new(code, code.message()));
    };
    check_known(shard, replicas)?;
    if !may_change_replication_factor && replicas.len() != 1 {
        let message = format!("The replication factor is changed from 1 to {}", replicas.len());
        return Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let at = shard.node.broker_id(owner(topic.key(index), shard.shards));
    match replicas[..] {
        [one] if one == at => Ok(()),
        // only where each core is a broker
        [one] => Err(invalid(format!(
            "Brokers {one} and {at} are cores of one node, and the core of a partition follows from its id: {}-{index} stays on {at}.",
            topic.name
        ))),
        _ => Err(invalid(format!(
            "Brokers {replicas:?} are cores of one node, and the replicas of a partition are on as many nodes."
        ))),
    }
}

/// Kafka: `ReplicationControlManager.validateManualPartitionAssignment`.
fn check_known(shard: &Shard, replicas: &[i32]) -> Result<(), Refused> {
    if replicas.is_empty() {
        return Err(invalid("The manual partition assignment includes an empty replica list.".to_owned()));
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    let mut before = None;
    for broker in sorted {
        if !shard.node.is_broker(broker) {
            return Err(invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            )));
        }
        if before.replace(broker) == Some(broker) {
            return Err(invalid(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            )));
        }
    }
    Ok(())
}

fn invalid(message: String) -> Refused {
    Refused::new(ErrorCode::InvalidReplicaAssignment, message)
}

fn unknown(message: String) -> Refused {
    Refused::new(ErrorCode::UnknownTopicOrPartition, message)
}
