//! What a call gives back.

use corelane_protocol::{ErrorCode, Str};

use super::partitions::Partitions;
use super::transaction::Producer;
use crate::group::{WaitToken, Write};

/// The answer to a request: the producer as it is from now on, where that matters, or what went wrong.
pub type Answer = Result<Producer, ErrorCode>;

pub type Reply = crate::group::Reply<Answer>;

/// The result of handling a request.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub reply: Reply,
    pub effects: Effects,
}

impl Outcome {
    pub(super) fn now(answer: Answer) -> Outcome {
        Outcome { reply: Reply::Now(answer), effects: Effects::default() }
    }
}

/// What a call asks its caller to do, besides answering.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// To be appended in their order; the machine is told of each with `write_completed` or `write_failed`.
    pub writes: Vec<Write>,
    /// To be written to every partition named, again and again until all have theirs; then `markers_written`.
    pub markers: Vec<Markers>,
    pub completed: Vec<Completed>,
}

/// The end of a transaction, for its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    pub transactional_id: Str,
    pub producer: Producer,
    pub commit: bool,
    /// The producer's epoch rises with every transaction (KIP-890).
    pub version: i16,
    pub partitions: Partitions,
}

/// An answer that someone has been waiting for. It may go out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    pub token: WaitToken,
    pub answer: Answer,
}
