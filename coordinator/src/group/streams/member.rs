//! A member of a streams group: one thread of an application.

use std::collections::BTreeMap;

use corelane_protocol::Str;

use super::tasks::AssignedTasks;
use crate::timer::Timer;

/// Where a member stands on its way to its target assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has all that it is to have as of its epoch.
    #[default]
    Stable,
    /// It is to give up tasks first.
    UnrevokedTasks,
    /// It waits for tasks that others have yet to give up.
    UnreleasedTasks,
    /// Written by a Kafka that knows more states.
    Unknown,
}

impl MemberState {
    pub(crate) fn code(self) -> i8 {
        match self {
            MemberState::Stable => 1,
            MemberState::UnrevokedTasks => 2,
            MemberState::UnreleasedTasks => 3,
            MemberState::Unknown => 127,
        }
    }

    pub(crate) fn from_code(code: i8) -> MemberState {
        match code {
            1 => MemberState::Stable,
            2 => MemberState::UnrevokedTasks,
            3 => MemberState::UnreleasedTasks,
            _ => MemberState::Unknown,
        }
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberMetadata {
    pub(crate) instance_id: Option<Str>,
    pub(crate) rack_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    /// How long it may take to give up tasks.
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) topology_epoch: i32,
    /// Members of one process share its disk.
    pub(crate) process_id: Str,
    /// Where others can ask for its state (interactive queries): host and port.
    pub(crate) user_endpoint: Option<(Str, u16)>,
    pub(crate) client_tags: BTreeMap<Str, Str>,
}

impl Default for MemberMetadata {
    fn default() -> MemberMetadata {
        MemberMetadata {
            instance_id: None,
            rack_id: None,
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            process_id: Str::EMPTY,
            user_endpoint: None,
            client_tags: BTreeMap::new(),
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CurrentAssignment {
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) assigned: AssignedTasks,
    /// What it is to give up.
    pub(crate) revoked: AssignedTasks,
}

impl CurrentAssignment {
    /// Of a member that is about to go.
    pub(crate) fn gone() -> CurrentAssignment {
        CurrentAssignment { epoch: -1, previous_epoch: -1, ..CurrentAssignment::default() }
    }

    pub(crate) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }
}

#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) metadata: MemberMetadata,
    pub(crate) current: CurrentAssignment,
    pub(crate) session: Timer,
    /// The end of the time to give up tasks.
    pub(crate) revocation: Timer,
}
