//! One transactional id.

use corelane_protocol::ErrorCode;

use super::partitions::{Partitions, TxnVersion};
use super::state::TxnState;

/// Who writes: an id, and which life of it. -1: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

impl Producer {
    pub const NONE: Producer = Producer { id: -1, epoch: -1 };

    /// The last epoch is kept back, so that whoever has the one before it can still be fenced.
    pub(super) fn is_exhausted(self) -> bool {
        self.epoch >= i16::MAX - 1
    }
}

/// What a record holds of a transactional id. A transition is a changed copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Epoch -1: the id has just been made and no record of it is written yet.
    pub(super) producer: Producer,
    /// The producer id before the last transition.
    pub(super) previous_id: i64,
    /// The producer id that takes over when this transaction is complete, because epochs ran out; -1: the same.
    pub(super) next_id: i64,
    /// The epoch before the last bump, of a producer that asked for it itself: it may ask again. -1: none. In no record.
    pub(super) last_epoch: i16,
    pub(super) timeout_ms: i32,
    pub(super) state: TxnState,
    pub(super) partitions: Partitions,
    /// Wall clock; -1: no transaction yet.
    pub(super) started_ms: i64,
    pub(super) updated_ms: i64,
    pub(super) version: TxnVersion,
}

/// What is being written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Change(Stored),
    Removal,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) stored: Stored,
    pub(super) pending: Option<Pending>,
}

impl Transaction {
    /// Something is being written, or the transaction is ending: whoever wants something else has to come again.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some() || self.stored.state.is_prepared()
    }
}

impl Stored {
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Stored {
        Stored {
            producer: Producer { id: producer_id, epoch: -1 },
            previous_id: -1,
            next_id: -1,
            last_epoch: -1,
            timeout_ms,
            state: TxnState::Empty,
            partitions: Partitions::default(),
            started_ms: -1,
            updated_ms: now_ms,
            version: TxnVersion::V0,
        }
    }

    fn to(&self, state: TxnState, now_ms: i64) -> Stored {
        Stored { previous_id: self.producer.id, state, updated_ms: now_ms, ..self.clone() }
    }

    /// A producer begins, or begins again with the epoch that it `expected`. `fresh_id` is for a producer whose epochs are
    /// used up.
    pub(super) fn initialised(
        &self,
        expected: Option<i16>,
        timeout_ms: i32,
        now_ms: i64,
        fresh_id: impl FnOnce() -> Option<i64>,
    ) -> Result<Stored, ErrorCode> {
        let current = self.producer.epoch;
        let (producer, last_epoch) = match expected {
            Some(epoch) if epoch != current && current != -1 => {
                if epoch != self.last_epoch {
                    return Err(ErrorCode::ProducerFenced);
                }
                // It asks again, having missed the answer.
                (self.producer, epoch)
            }
            _ if self.producer.is_exhausted() => {
                let id = fresh_id().ok_or(ErrorCode::CoordinatorNotAvailable)?;
                (Producer { id, epoch: 0 }, if expected.is_some() { current } else { -1 })
            }
            Some(_) => (Producer { epoch: current + 1, ..self.producer }, current),
            // Whoever had the epoch before is fenced for good.
            None => (Producer { epoch: current + 1, ..self.producer }, -1),
        };
        let partitions = Partitions::default();
        let begun = self.to(TxnState::Empty, now_ms);
        Ok(Stored { producer, last_epoch, timeout_ms, partitions, started_ms: -1, ..begun })
    }

    pub(super) fn extended(&self, added: &Partitions, version: TxnVersion, now_ms: i64) -> Stored {
        let mut partitions = self.partitions.clone();
        partitions.extend(added);
        let started_ms = if self.state == TxnState::Ongoing { self.started_ms } else { now_ms };
        Stored { partitions, started_ms, version, ..self.to(TxnState::Ongoing, now_ms) }
    }

    /// The end is decided. From version 2 on the epoch rises with it; where that was the last but one, `next_id` takes over.
    pub(super) fn prepared(&self, commit: bool, version: TxnVersion, next_id: i64, now_ms: i64) -> Stored {
        let state = if commit { TxnState::PrepareCommit } else { TxnState::PrepareAbort };
        let mut next = Stored { version, next_id, ..self.to(state, now_ms) };
        if version.bumps_epochs() {
            next.last_epoch = self.producer.epoch;
            next.producer.epoch = self.producer.epoch.saturating_add(1);
        }
        if self.state != TxnState::Ongoing {
            next.started_ms = now_ms;
        }
        next
    }

    /// Every marker is written.
    pub(super) fn completed(&self, now_ms: i64) -> Stored {
        let commit = self.state == TxnState::PrepareCommit;
        let state = if commit { TxnState::CompleteCommit } else { TxnState::CompleteAbort };
        let mut next = Stored { next_id: -1, partitions: Partitions::default(), ..self.to(state, now_ms) };
        if self.version.bumps_epochs() && self.next_id != -1 {
            next.producer = Producer { id: self.next_id, epoch: 0 };
        }
        next
    }
}
