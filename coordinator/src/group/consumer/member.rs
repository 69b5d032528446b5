//! A member of a consumer group: what it asks for, and what it has.

use std::collections::BTreeSet;

use corelane_protocol::Str;

use crate::group::member::Protocol;
use crate::group::modern::partitions::Owned;

/// Member epochs with a meaning of their own.
pub(crate) const JOINING: i32 = 0;
pub(crate) const LEAVING: i32 = -1;
/// A static member that left and may come back under its instance id.
pub(crate) const LEAVING_FOR_A_WHILE: i32 = -2;

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) instance_id: Option<Str>,
    pub(crate) rack_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) topics: BTreeSet<Str>,
    /// Empty: none.
    pub(crate) regex: Str,
    pub(crate) assignor: Option<Str>,
    /// -1: not said.
    pub(crate) rebalance_timeout_ms: i32,
    /// Of a member that speaks the classic protocol.
    pub(crate) classic: Option<ClassicMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassicMember {
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
}

impl Default for Subscription {
    fn default() -> Subscription {
        Subscription {
            instance_id: None,
            rack_id: None,
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
            topics: BTreeSet::new(),
            regex: Str::EMPTY,
            assignor: None,
            rebalance_timeout_ms: -1,
            classic: None,
        }
    }
}

/// How far a member is on its way to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has all that is meant for it.
    Stable,
    /// It has to give up partitions first.
    Revoking,
    /// It waits for partitions that others have to give up.
    Waiting,
    /// A state of a newer version.
    Unknown,
}

impl MemberState {
    pub(crate) fn from_code(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::Revoking,
            2 => MemberState::Waiting,
            _ => MemberState::Unknown,
        }
    }

    pub(crate) fn code(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::Revoking => 1,
            MemberState::Waiting => 2,
            MemberState::Unknown => 127,
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) assigned: Owned,
    /// What it has to give up and still owns.
    pub(crate) revoking: Owned,
}

impl Default for Current {
    fn default() -> Current {
        Current {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }
}

impl Current {
    pub(crate) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}
