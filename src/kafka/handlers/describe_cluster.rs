//! DescribeCluster (KIP-700).

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::describe_cluster_response::DescribeClusterResponseDescribeClusterBroker;
use corelane_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use crate::kafka::operations;
use crate::kafka::request::RequestContext;

/// `endpoint_type` of a client that looks for brokers, not controllers (KIP-919).
const BROKERS: i8 = 1;

pub async fn handle(context: RequestContext, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let node = &context.shard.node;
    if request.endpoint_type != BROKERS {
        let code = match request.endpoint_type {
            2 => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some("The request was sent to an endpoint of type BROKER.".into()),
            ..Default::default()
        };
    }
    DescribeClusterResponse {
        cluster_id: node.cluster_id.clone().into(),
        controller_id: node.controller_id(),
        brokers: node
            .brokers(&context.client.listener)
            .into_iter()
            .map(|broker| DescribeClusterResponseDescribeClusterBroker {
                broker_id: broker.id,
                host: broker.host.into(),
                port: i32::from(broker.port),
                rack: broker.rack.map(Into::into),
                ..Default::default()
            })
            .collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::UNKNOWN,
        },
        ..Default::default()
    }
}
