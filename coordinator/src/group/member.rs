//! A member of a classic group.

use bytes::Bytes;
use corelane_protocol::Str;
use corelane_protocol::messages::{DescribeGroupsResponseDescribedGroupMember, JoinGroupRequest};

use super::env::JoinWaiter;
use super::outcome::WaitToken;
use crate::timer::Timer;

/// A protocol (assignor) that a member can do, and what it says to the leader in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Str,
    pub(crate) metadata: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the member's order of preference, no name twice.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    pub(crate) awaiting_join: Option<JoinWaiter>,
    pub(crate) awaiting_sync: Option<WaitToken>,
    /// It has not been told its id yet, so it cannot send heartbeats.
    pub(crate) is_new: bool,
    pub(crate) session: Timer,
}

impl Member {
    pub(crate) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// Waiting for a rebalance counts as a sign of life, except for those who may have left without being able to say so.
    pub(crate) fn is_alive_while_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|offered| Some(offered.name.as_str()) == protocol);
        found.map_or_else(Bytes::new, |offered| offered.metadata.clone())
    }

    /// Whether the request offers just what the member offers already.
    pub(crate) fn matches(&self, request: &JoinGroupRequest) -> bool {
        self.protocols.len() == request.protocols.len()
            && self
                .protocols
                .iter()
                .zip(&request.protocols)
                .all(|(mine, asked)| mine.name == asked.name && mine.metadata == asked.metadata)
    }

    pub(crate) fn describe(&self, id: &Str, protocol: Option<&str>) -> DescribeGroupsResponseDescribedGroupMember {
        DescribeGroupsResponseDescribedGroupMember {
            member_id: id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            member_metadata: self.metadata(protocol),
            member_assignment: self.assignment.clone(),
            ..Default::default()
        }
    }
}

/// The protocols that a request offers, in memory of their own.
pub(crate) fn protocols_of(request: &JoinGroupRequest) -> Vec<Protocol> {
    let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
    for offered in &request.protocols {
        if !protocols.iter().any(|known| known.name == offered.name) {
            let metadata = Bytes::copy_from_slice(&offered.metadata);
            protocols.push(Protocol { name: offered.name.detach(), metadata });
        }
    }
    protocols
}
