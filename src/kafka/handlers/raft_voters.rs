//! What AddRaftVoter and RemoveRaftVoter (KIP-853) have in common: the voters of the metadata log do not change, as in Kafka with
//! `kraft.version` 0. One node is the only voter.

use corelane_protocol::{ErrorCode, Str, Uuid};

use crate::controller::Refused;
use crate::node::Node;

/// A node of the quorum, and its data directory.
pub type Voter = (i32, Uuid);

/// What is wrong with the request itself, in the order in which Kafka looks at it.
pub fn check(node: &Node, cluster_id: Option<&Str>, (id, directory): Voter) -> Result<(), Refused> {
    if let Some(asked) = cluster_id.filter(|asked| **asked != *node.cluster_id) {
        let message = format!("The request is for cluster {asked:?}, and this is {:?}", node.cluster_id);
        return Err(Refused::new(ErrorCode::InconsistentClusterId, message));
    }
    if id < 0 || directory == Uuid::ZERO {
        return Err(Refused::new(ErrorCode::InvalidRequest, "A voter has an id and the id of its directory"));
    }
    Ok(())
}

pub fn unchanging() -> Refused {
    Refused::new(ErrorCode::UnsupportedVersion, "The one node is the only voter: the feature kraft.version is 0")
}
