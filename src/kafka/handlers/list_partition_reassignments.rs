//! ListPartitionReassignments (KIP-455): what moves from node to node. With one node nothing does.

use corelane_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::kafka::request::RequestContext;

pub async fn handle(_: RequestContext, _: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse { error_message: None, ..Default::default() }
}
