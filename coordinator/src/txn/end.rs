//! EndTxn, and the markers that follow it.

use corelane_protocol::ErrorCode;

use super::coordinator::TxnCoordinator;
use super::outcome::{Answer, Effects, Markers, Outcome};
use super::partitions::TxnVersion;
use super::state::TxnState;
use super::transaction::{Pending, Producer, Stored};
use crate::Now;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnResult {
    Commit,
    Abort,
}

/// Whether whoever runs a transaction is shut out by more than what its version does at every end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fencing {
    ByVersion,
    /// Before version 2: the epoch rises here.
    ByHand,
}

/// What an EndTxn leads to.
enum Step {
    /// It was done before; nothing is written.
    Repeated,
    Prepare,
}

impl TxnCoordinator {
    /// The producer ends its transaction. Answered when the decision is durable; the markers are written afterwards.
    ///
    /// The answer holds the producer as it is for the next transaction, which differs from version 2 on.
    pub fn end(
        &mut self,
        now: Now,
        transactional_id: &str,
        producer: Producer,
        result: TxnResult,
        version: TxnVersion,
    ) -> Outcome {
        if transactional_id.is_empty() {
            return Outcome::now(Err(ErrorCode::InvalidRequest));
        }
        let Some(found) = self.transactions.get(transactional_id) else {
            return Outcome::now(Err(ErrorCode::InvalidProducerIdMapping));
        };
        if found.is_busy() {
            return Outcome::now(Err(ErrorCode::ConcurrentTransactions));
        }
        let stored = &found.stored;
        let step = if version.bumps_epochs() {
            stored.end_bumping(producer, result)
        } else {
            stored.end_plain(producer, result)
        };
        match step {
            Err(error) => Outcome::now(Err(error)),
            Ok(Step::Repeated) => Outcome::now(Ok(stored.producer)),
            Ok(Step::Prepare) if !self.stores(version) => Outcome::now(Err(ErrorCode::UnsupportedVersion)),
            Ok(Step::Prepare) => self.prepare(now, transactional_id, result, (version, Fencing::ByVersion), Ok),
        }
    }

    /// Aborts the transaction under way on behalf of the broker, so that whoever runs it is fenced. The answer says to come
    /// again.
    pub(super) fn fence(&mut self, now: Now, transactional_id: &str) -> Outcome {
        let fencing = if self.version.bumps_epochs() { Fencing::ByVersion } else { Fencing::ByHand };
        self.prepare(now, transactional_id, TxnResult::Abort, (self.version, fencing), |_| {
            Err(ErrorCode::ConcurrentTransactions)
        })
    }

    fn prepare(
        &mut self,
        now: Now,
        transactional_id: &str,
        result: TxnResult,
        (version, fencing): (TxnVersion, Fencing),
        answer: impl FnOnce(Producer) -> Answer,
    ) -> Outcome {
        let Some(found) = self.transactions.get(transactional_id) else {
            return Outcome::now(Err(ErrorCode::InvalidProducerIdMapping));
        };
        let mut next_id = -1;
        if version.bumps_epochs() && found.stored.producer.is_exhausted() {
            let Some(id) = self.spare_ids.pop() else {
                return Outcome::now(Err(ErrorCode::CoordinatorNotAvailable));
            };
            next_id = id;
        }
        let mut next = found.stored.prepared(result == TxnResult::Commit, version, next_id, now.wall_ms);
        if fencing == Fencing::ByHand {
            next.producer.epoch = next.producer.epoch.saturating_add(1);
            next.last_epoch = -1;
        }
        let producer = next.completed(now.wall_ms).producer;
        self.begin(now, transactional_id, Pending::Change(next), answer(producer))
    }

    /// Sends the markers of a decided transaction, or completes it if there is nobody to send them to.
    pub(super) fn send_markers(&mut self, now: Now, transactional_id: &str, out: &mut Effects) {
        let Some((id, found)) = self.transactions.get_key_value(transactional_id) else { return };
        let stored = &found.stored;
        if !stored.partitions.is_empty() {
            out.markers.push(Markers {
                transactional_id: id.clone(),
                producer: stored.producer,
                commit: stored.state == TxnState::PrepareCommit,
                version: stored.version.level(),
                partitions: stored.partitions.clone(),
            });
            return;
        }
        self.complete(now, transactional_id, out);
    }

    /// Every partition has its marker of the transaction that `producer` ended.
    pub fn markers_written(&mut self, now: Now, transactional_id: &str, producer: Producer) -> Effects {
        let mut out = Effects::default();
        if self.transactions.get(transactional_id).is_some_and(|found| found.stored.producer == producer) {
            self.complete(now, transactional_id, &mut out);
        }
        out
    }

    /// Writes that a decided transaction is complete.
    pub(super) fn complete(&mut self, now: Now, transactional_id: &str, out: &mut Effects) {
        let Some(found) = self.transactions.get(transactional_id) else { return };
        if found.stored.state.is_prepared() && found.pending.is_none() {
            let next = found.stored.completed(now.wall_ms);
            self.write(transactional_id, Pending::Change(next), None, out);
        }
    }
}

/// Neither is called while the transaction is ending.
impl Stored {
    /// A client of version 1: the epoch stays, and tells nothing about whether a request is repeated.
    fn end_plain(&self, producer: Producer, result: TxnResult) -> Result<Step, ErrorCode> {
        if self.producer.id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if self.producer.epoch != producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        match (self.state, result) {
            (TxnState::Ongoing, _) => Ok(Step::Prepare),
            (TxnState::CompleteCommit, TxnResult::Commit) | (TxnState::CompleteAbort, TxnResult::Abort) => {
                Ok(Step::Repeated)
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// A client of version 2: the epoch rises with every end, so that the one before means that the request is repeated. A
    /// transaction that no partition has joined may be aborted, which a client does when it does not know.
    fn end_bumping(&self, producer: Producer, result: TxnResult) -> Result<Step, ErrorCode> {
        let rotated = self.previous_id == producer.id && producer.epoch == i16::MAX - 1 && self.producer.epoch == 0;
        if self.producer.id != producer.id && !rotated {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let is_current = self.producer.epoch == producer.epoch;
        let is_repeated = producer.epoch.checked_add(1) == Some(self.producer.epoch);
        let is_known = match self.state {
            TxnState::Empty | TxnState::Ongoing => is_current,
            _ => is_repeated || rotated || is_current,
        };
        if !is_known {
            return Err(ErrorCode::ProducerFenced);
        }
        let is_repeated = is_repeated || rotated;
        match (self.state, result) {
            (TxnState::Ongoing, _) | (TxnState::Empty, TxnResult::Abort) => Ok(Step::Prepare),
            (TxnState::CompleteCommit, TxnResult::Commit) if is_repeated => Ok(Step::Repeated),
            (TxnState::CompleteAbort, TxnResult::Abort) if is_repeated => Ok(Step::Repeated),
            (TxnState::CompleteCommit | TxnState::CompleteAbort, TxnResult::Abort) if !is_repeated => Ok(Step::Prepare),
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }
}
