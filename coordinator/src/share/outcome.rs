//! What a call gives back.

use corelane_protocol::ErrorCode;

use super::batches::StateBatch;
use crate::group::{WaitToken, Write};

/// What an operation found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Known(Known),
    Summary(Summary),
}

/// ReadShareGroupState: what whoever serves the partition starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub state_epoch: i32,
    /// -1: nobody has decided where to begin.
    pub start_offset: i64,
    pub batches: Vec<StateBatch>,
}

/// ReadShareGroupStateSummary: how far the group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub state_epoch: i32,
    pub leader_epoch: i32,
    pub start_offset: i64,
    /// Records behind the start offset that are done with; -1: not known.
    pub delivery_complete_count: i32,
}

impl Summary {
    /// Of a partition of which nothing is stored (`PartitionFactory`).
    pub(super) const NONE: Summary =
        Summary { state_epoch: 0, leader_epoch: 0, start_offset: -1, delivery_complete_count: -1 };
}

/// An error, and why where its code does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub reason: Option<&'static str>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal { code, reason: None }
    }
}

impl Refusal {
    pub fn message(&self) -> &'static str {
        self.reason.unwrap_or(self.code.message())
    }
}

pub type Reply = crate::group::Reply<Result<Answer, Refusal>>;

/// The result of an operation.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub reply: Reply,
    pub effects: Effects,
}

/// What a call asks its caller to do, besides answering.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// To be appended in their order; the machine is told of each with `write_placed`, then `write_completed` or `write_failed`.
    pub writes: Vec<Write>,
    pub prune: Option<Prune>,
    pub completed: Vec<Completed>,
}

/// Nothing before this offset of the machine's partition is needed any more: it may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune(pub i64);

/// An answer that someone has been waiting for. It may go out at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    pub token: WaitToken,
    pub answer: Result<Answer, Refusal>,
}
