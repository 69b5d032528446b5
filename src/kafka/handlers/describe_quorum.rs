//! DescribeQuorum (KIP-595, KIP-853): who keeps the metadata log. With one node it is the only voter, and it leads.

use core_pinning::time::wall_ms;
use corelane_protocol::messages::describe_quorum_request::DescribeQuorumRequestTopicData;
use corelane_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponseListener, DescribeQuorumResponseNode, DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseReplicaState, DescribeQuorumResponseTopicData,
};
use corelane_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::image::METADATA_TOPIC;
use crate::controller::quorum::DescribeMetadataLog;
use crate::controller::requests::ask;
use crate::kafka::request::RequestContext;

/// First version that says when a voter was last heard of (KIP-836), and where it is (KIP-853).
const TIMES_FROM: i16 = 1;
const NODES_FROM: i16 = 2;

pub async fn handle(context: RequestContext, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let shard = &context.shard;
    if !is_metadata(&request.topics) {
        return unknown(request);
    }
    let log = ask(shard, DescribeMetadataLog).await;
    let node = &shard.node;
    let id = node.controller_id();
    // Fields of later versions.
    let now = if context.version >= TIMES_FROM { wall_ms() } else { -1 };
    let voter = DescribeQuorumResponseReplicaState {
        replica_id: id,
        log_end_offset: log.end.0,
        last_fetch_timestamp: now,
        last_caught_up_timestamp: now,
        ..Default::default()
    };
    let partition = DescribeQuorumResponsePartitionData {
        leader_id: id,
        leader_epoch: log.term.leader_epoch(),
        high_watermark: log.high_watermark.0,
        current_voters: vec![voter],
        ..Default::default()
    };
    // Controllers are reached where clients are: there is no listener of their own.
    let by = &context.client.listener;
    let listener = by.advertised.as_ref().map(|address| DescribeQuorumResponseListener {
        name: by.name.clone().into(),
        host: address.host.clone().into(),
        port: address.port,
        ..Default::default()
    });
    let nodes = match context.version {
        NODES_FROM.. => {
            let listeners = listener.into_iter().collect();
            vec![DescribeQuorumResponseNode { node_id: id, listeners, ..Default::default() }]
        }
        _ => Vec::new(),
    };
    let topic = DescribeQuorumResponseTopicData {
        topic_name: Str::from_static(METADATA_TOPIC),
        partitions: vec![partition],
        ..Default::default()
    };
    DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() }
}

/// One topic, the metadata's, and its one partition; nothing else can be asked for.
fn is_metadata(topics: &[DescribeQuorumRequestTopicData]) -> bool {
    let [topic] = topics else { return false };
    topic.topic_name == METADATA_TOPIC && matches!(&topic.partitions[..], [one] if one.partition_index == 0)
}

fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let error = ErrorCode::UnknownTopicOrPartition;
    let partition = |partition_index: i32| DescribeQuorumResponsePartitionData {
        partition_index,
        error_code: error.code(),
        error_message: Some(error.message().into()),
        ..Default::default()
    };
    let topics = request.topics.into_iter().map(|topic| DescribeQuorumResponseTopicData {
        topic_name: topic.topic_name,
        partitions: topic.partitions.into_iter().map(|p| partition(p.partition_index)).collect(),
        ..Default::default()
    });
    DescribeQuorumResponse { topics: topics.collect(), ..Default::default() }
}
