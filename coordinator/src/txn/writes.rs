//! Writes under way, and what becomes of a transaction when they end.

use std::collections::VecDeque;

use corelane_protocol::{ErrorCode, Str};

use super::coordinator::TxnCoordinator;
use super::outcome::{Answer, Completed, Effects};
use super::persist;
use super::state::TxnState;
use super::transaction::{Pending, Stored};
use crate::Now;
use crate::group::reject::write_error;
use crate::group::{WaitToken, Write, WriteId};

#[derive(Debug)]
struct PendingWrite {
    /// The transitions that it makes durable are the `pending` ones of these.
    transactional_ids: Vec<Str>,
    /// Who waits for it, and what to say if all goes well.
    reply: Option<(WaitToken, Answer)>,
}

/// The writes under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct WriteLog {
    pending: VecDeque<(WriteId, PendingWrite)>,
    next: u64,
    /// A write that could not even be encoded.
    doomed: Option<WriteId>,
}

impl WriteLog {
    fn push(&mut self, write: PendingWrite) -> WriteId {
        let id = WriteId(self.next);
        self.next += 1;
        self.pending.push_back((id, write));
        id
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn drain_replies(&mut self) -> Vec<WaitToken> {
        let replies = self.pending.drain(..).filter_map(|(_, write)| write.reply);
        replies.map(|(token, _)| token).collect()
    }
}

impl TxnCoordinator {
    pub(super) fn write(
        &mut self,
        transactional_id: &str,
        pending: Pending,
        reply: Option<(WaitToken, Answer)>,
        out: &mut Effects,
    ) {
        self.write_all(vec![(Str::from(transactional_id.to_owned()), pending)], reply, out);
    }

    /// Makes records of transitions, in one batch.
    pub(super) fn write_all(
        &mut self,
        transitions: Vec<(Str, Pending)>,
        reply: Option<(WaitToken, Answer)>,
        out: &mut Effects,
    ) {
        let record = |(id, pending): &(Str, Pending)| match pending {
            Pending::Change(stored) => persist::record(id, Some(stored), self.version),
            Pending::Removal => persist::record(id, None, self.version),
        };
        let records: Result<Vec<_>, _> = transitions.iter().map(record).collect();
        let mut transactional_ids = Vec::with_capacity(transitions.len());
        for (id, pending) in transitions {
            if let Some(found) = self.transactions.get_mut(&id) {
                found.pending = Some(pending);
            }
            transactional_ids.push(id);
        }
        let id = self.writes.push(PendingWrite { transactional_ids, reply });
        match records {
            Ok(records) => out.writes.push(Write { id, records, producer: None }),
            Err(_) => self.writes.doomed = Some(self.writes.doomed.map_or(id, |other| other.min(id))),
        }
    }

    /// The write `id` is durable, and so is every write before it.
    pub fn write_completed(&mut self, now: Now, id: WriteId) -> Effects {
        let mut out = Effects::default();
        while self.writes.pending.front().is_some_and(|(other, _)| *other <= id)
            && let Some((_, write)) = self.writes.pending.pop_front()
        {
            for transactional_id in &write.transactional_ids {
                self.written(now, transactional_id, &mut out);
            }
            out.completed.extend(write.reply.map(|(token, answer)| Completed { token, answer }));
        }
        self.settle(now, &mut out);
        out
    }

    fn written(&mut self, now: Now, transactional_id: &Str, out: &mut Effects) {
        let Some(found) = self.transactions.get_mut(transactional_id) else { return };
        match found.pending.take() {
            None => {}
            Some(Pending::Removal) => drop(self.transactions.remove(transactional_id)),
            Some(Pending::Change(stored)) => {
                found.stored = stored;
                self.now_stands(now, transactional_id, out);
            }
        }
    }

    /// Does what the state of a transaction asks for, as it is after a transition or after loading.
    pub(super) fn now_stands(&mut self, now: Now, transactional_id: &Str, out: &mut Effects) {
        let Some(found) = self.transactions.get(transactional_id) else { return };
        match found.stored.state {
            TxnState::Ongoing => self.checks.timeouts_by(now.mono_ms + self.config.timeout_check_interval_ms),
            TxnState::PrepareCommit | TxnState::PrepareAbort => self.send_markers(now, transactional_id, out),
            TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort => {
                self.checks.expiry_by(now.mono_ms + self.config.id_expiration_check_interval_ms);
            }
        }
    }

    /// The write `id` will never be in the log, and neither will the writes after it. `error` is what appending gave, as Kafka
    /// names it; who waits gets what Kafka makes of it.
    pub fn write_failed(&mut self, now: Now, id: WriteId, error: ErrorCode) -> Effects {
        let mut out = Effects::default();
        self.give_up_writes(now, id, error, &mut out);
        self.settle(now, &mut out);
        out
    }

    fn give_up_writes(&mut self, now: Now, id: WriteId, error: ErrorCode, out: &mut Effects) {
        let position = self.writes.pending.partition_point(|(other, _)| *other < id);
        for (_, write) in self.writes.pending.split_off(position) {
            let answer = Err(write_error(error));
            out.completed.extend(write.reply.map(|(token, _)| Completed { token, answer }));
            for transactional_id in &write.transactional_ids {
                let Some(found) = self.transactions.get_mut(transactional_id) else { continue };
                let completes = matches!(&found.pending, Some(Pending::Change(next)) if next.completes());
                found.pending = None;
                if completes {
                    // Its markers are written and nobody will ask for it again.
                    self.checks.complete_again(transactional_id.clone(), now.mono_ms + self.config.retry_ms);
                }
            }
        }
    }

    /// To be called last wherever something may have been written: fails what could not be encoded.
    pub(super) fn settle(&mut self, now: Now, out: &mut Effects) {
        while let Some(id) = self.writes.doomed.take() {
            out.writes.retain(|write| write.id < id);
            self.give_up_writes(now, id, ErrorCode::UnknownServerError, out);
        }
    }
}

impl Stored {
    fn completes(&self) -> bool {
        matches!(self.state, TxnState::CompleteCommit | TxnState::CompleteAbort)
    }
}
