//! InitProducerId of a transactional id.

use corelane_protocol::ErrorCode;

use super::coordinator::TxnCoordinator;
use super::outcome::Outcome;
use super::state::TxnState;
use super::transaction::{Pending, Producer, Stored, Transaction};
use crate::Now;

impl TxnCoordinator {
    /// A producer takes a transactional id over: whoever had it before is fenced, and its transaction aborted, for which the
    /// producer has to come again. `expected` is what a producer that goes on after an error was told before.
    pub fn init_producer_id(
        &mut self,
        now: Now,
        transactional_id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Outcome {
        if transactional_id.is_empty() {
            return Outcome::now(Err(ErrorCode::InvalidRequest));
        }
        if !self.config.is_timeout(timeout_ms) {
            return Outcome::now(Err(ErrorCode::InvalidTransactionTimeout));
        }
        if !self.transactions.contains_key(transactional_id) {
            let Some(id) = self.spare_ids.pop() else {
                return Outcome::now(Err(ErrorCode::CoordinatorNotAvailable));
            };
            self.insert(transactional_id, Stored::new(id, timeout_ms, now.wall_ms));
        }
        let Some(found) = self.transactions.get(transactional_id) else {
            return Outcome::now(Err(ErrorCode::UnknownServerError));
        };
        if let Err(error) = found.check_take_over(expected) {
            return Outcome::now(Err(error));
        }
        if found.stored.state == TxnState::Ongoing {
            return self.fence(now, transactional_id);
        }
        let spare_ids = &mut self.spare_ids;
        let next = found.stored.initialised(expected.map(|p| p.epoch), timeout_ms, now.wall_ms, || spare_ids.pop());
        match next {
            Ok(next) => {
                let producer = next.producer;
                self.begin(now, transactional_id, Pending::Change(next), Ok(producer))
            }
            Err(error) => Outcome::now(Err(error)),
        }
    }
}

impl Transaction {
    fn check_take_over(&self, expected: Option<Producer>) -> Result<(), ErrorCode> {
        if self.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let stored = &self.stored;
        let is_known = |expected: Producer| {
            stored.producer.epoch == -1
                || expected.id == stored.producer.id
                // It may have missed the answer that gave it the id it has now.
                || (expected.id == stored.previous_id && expected.is_exhausted())
        };
        if expected.is_none_or(is_known) { Ok(()) } else { Err(ErrorCode::ProducerFenced) }
    }
}
