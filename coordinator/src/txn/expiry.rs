//! Time: transactions that take too long, ids that nobody uses, and what has to be tried again.

use corelane_protocol::Str;

use super::coordinator::TxnCoordinator;
use super::outcome::{Effects, Reply};
use super::state::TxnState;
use super::transaction::{Pending, Transaction};
use crate::Now;

/// Ids that are forgotten with one write.
const WRITE_IDS: usize = 1_000;

/// When to look next, on the monotonic clock. `None`: there is nothing to look for.
#[derive(Debug, Default)]
pub(super) struct Checks {
    timeouts_ms: Option<i64>,
    expiry_ms: Option<i64>,
    /// Decided transactions whose last record could not be written.
    incomplete: Vec<Str>,
    retry_ms: Option<i64>,
}

impl Checks {
    pub(super) fn timeouts_by(&mut self, at: i64) {
        self.timeouts_ms.get_or_insert(at);
    }

    pub(super) fn expiry_by(&mut self, at: i64) {
        self.expiry_ms.get_or_insert(at);
    }

    pub(super) fn complete_again(&mut self, transactional_id: Str, at: i64) {
        self.incomplete.push(transactional_id);
        self.retry_ms.get_or_insert(at);
    }
}

/// Takes the time out if it has come.
fn is_due(at: &mut Option<i64>, now: Now) -> bool {
    at.take_if(|at| *at <= now.mono_ms).is_some()
}

impl TxnCoordinator {
    /// When `tick` has to be called at the latest, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<i64> {
        let checks = &self.checks;
        [checks.timeouts_ms, checks.expiry_ms, checks.retry_ms].into_iter().flatten().min()
    }

    /// Does what is due: aborts transactions past their timeout, forgets ids that have not been used for long.
    pub fn tick(&mut self, now: Now) -> Effects {
        let mut out = Effects::default();
        if is_due(&mut self.checks.retry_ms, now) {
            for transactional_id in std::mem::take(&mut self.checks.incomplete) {
                self.complete(now, &transactional_id, &mut out);
            }
        }
        if is_due(&mut self.checks.timeouts_ms, now) {
            self.abort_timed_out(now, &mut out);
        }
        if is_due(&mut self.checks.expiry_ms, now) {
            self.forget_unused(now, &mut out);
        }
        self.settle(now, &mut out);
        out
    }

    fn select(&self, is_wanted: impl Fn(&Transaction) -> bool) -> Vec<Str> {
        let wanted = self.transactions.iter().filter(|(_, transaction)| is_wanted(transaction));
        let mut ids: Vec<Str> = wanted.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    fn abort_timed_out(&mut self, now: Now, out: &mut Effects) {
        let overdue = self.select(|transaction| transaction.is_overdue(now));
        for transactional_id in &overdue {
            let outcome = self.fence(now, transactional_id);
            // Nobody waits for it; where no producer id was left it is tried again.
            debug_assert!(matches!(outcome.reply, Reply::Later(_) | Reply::Now(Err(_))));
            out.writes.extend(outcome.effects.writes);
            out.completed.extend(outcome.effects.completed);
        }
        if self.transactions.values().any(|transaction| transaction.stored.state == TxnState::Ongoing) {
            self.checks.timeouts_by(now.mono_ms + self.config.timeout_check_interval_ms);
        }
    }

    fn forget_unused(&mut self, now: Now, out: &mut Effects) {
        let expiration_ms = self.config.id_expiration_ms;
        let unused = self.select(|transaction| transaction.is_unused(now, expiration_ms));
        for ids in unused.chunks(WRITE_IDS) {
            self.write_all(ids.iter().map(|id| (id.clone(), Pending::Removal)).collect(), None, out);
        }
        if !self.transactions.is_empty() {
            self.checks.expiry_by(now.mono_ms + self.config.id_expiration_check_interval_ms);
        }
    }
}

impl Transaction {
    fn is_overdue(&self, now: Now) -> bool {
        let stored = &self.stored;
        let limit = stored.started_ms.saturating_add(i64::from(stored.timeout_ms));
        self.pending.is_none() && stored.state == TxnState::Ongoing && limit < now.wall_ms
    }

    fn is_unused(&self, now: Now, expiration_ms: i64) -> bool {
        let unused = self.stored.updated_ms <= now.wall_ms.saturating_sub(expiration_ms);
        self.pending.is_none() && self.stored.state.is_at_rest() && unused
    }
}
