//! AddRaftVoter (KIP-853).

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse};

use super::raft_voters::{check, unchanging};
use crate::controller::Refused;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
    let voter = (request.voter_id, request.voter_directory_id);
    let refused = match check(&context.shard.node, request.cluster_id.as_ref(), voter) {
        Err(refused) => refused,
        Ok(()) if request.listeners.is_empty() => {
            Refused::new(ErrorCode::InvalidRequest, "Nobody says where the voter is reached")
        }
        Ok(()) => unchanging(),
    };
    let (error_code, error_message) = super::outcome_of(Err(refused));
    AddRaftVoterResponse { error_code, error_message, ..Default::default() }
}
