//! Share groups (KIP-932): who is in a group and which partitions each member reads. Several members may read one partition;
//! which records each of them gets is decided where the partition is.
//!
//! A member says what it subscribes to and, once the state of these partitions is initialised with the share coordinator, is
//! told in the next heartbeat what to read. There is nothing to revoke first, so every change takes one step.
//!
//! What is stored of a group changes by its records alone, while serving as in replay: [`state::ShareState::apply`].

mod assignor;
mod config;
mod describe;
mod group;
mod heartbeat;
mod initialize;
mod offsets;
mod record;
mod state;

use corelane_protocol::{ErrorCode, Str};

pub use config::{ShareGroupSettings, ShareSettings};
pub(crate) use group::ShareGroup;
pub use initialize::InitializeShareState;
pub use offsets::{ShareGroupDeletion, ShareOffsetsAlteration, ShareOffsetsDeletion};
pub(crate) use record::{ShareRecord, replayed};
pub(crate) use state::ShareState;

use super::modern::partitions::Partitions;

/// A request that is turned down, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Str,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: String) -> Refusal {
        Refusal { code, message: Str::from(message) }
    }

    fn not_a_share_group(group: &str) -> Refusal {
        Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group} is not a share group."))
    }
}
