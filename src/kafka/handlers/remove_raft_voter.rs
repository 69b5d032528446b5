//! RemoveRaftVoter (KIP-853).

use corelane_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use super::raft_voters::{check, unchanging};
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse {
    let voter = (request.voter_id, request.voter_directory_id);
    let result = check(&context.shard.node, request.cluster_id.as_ref(), voter).and_then(|()| Err(unchanging()));
    let (error_code, error_message) = super::outcome_of(result);
    RemoveRaftVoterResponse { error_code, error_message, ..Default::default() }
}
