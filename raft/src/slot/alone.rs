//! Proposals of a group whose only voter is this node: straight into the log.
//!
//! A quorum of one is this node's disk: an entry is committed when it is flushed, and applied in the order of the log. openraft
//! comes to the same by way of five tasks and their queues, whose memory is cold where a thousand groups are written to in turn:
//! a one-record produce then costs 22 us of CPU, against 7 us without it. So there is an instance only where it has somebody to
//! agree with, or is asked for ([`Group::wake`](crate::Group::wake)).
//!
//! The two never write at a time: a build waits until what went this way is committed, and what is proposed meanwhile waits for
//! the instance. There is no blank entry at the beginning of a term: nothing before it waits to be committed.

use std::rc::Rc;

use core_pinning::task::{self, Queue};
use corelane_storage::model::LogId;
use corelane_storage::{EntryKind, LogEntry, StorageError};

use super::{Phase, Slot};
use crate::proposal::{Answer, Produce, Progress, ProposeError, Ticket};

impl Slot {
    /// Appends a batch to the log. Cold only, and the term must be claimed. On an error nothing was appended.
    pub(super) fn append_alone(self: &Rc<Self>, produce: Produce, answer: Answer) -> Result<(), ProposeError> {
        let Produce { batch, ticket } = produce;
        let log = &self.replica.log;
        let next = self.replica.last().map(|last| last.index.next()).unwrap_or_default();
        let id = LogId { term: self.replica.term(), index: next };
        let (slot, to_flush) = (self.clone(), ticket.clone());
        let durable = move |result| {
            if slot.appending.get() {
                // With write caching: nobody has noted the proposal yet.
                task::spawn(Queue::Serve, "applied", async move { slot.flushed_alone(id, to_flush, answer, result) })
                    .detach();
            } else {
                slot.flushed_alone(id, to_flush, answer, result);
            }
        };
        self.alone.set(self.alone.get() + 1);
        self.appending.set(true);
        let appended = log.append([LogEntry { id, kind: EntryKind::Data, bytes: batch }], durable);
        self.appending.set(false);
        if let Err(error) = appended {
            self.ended_alone();
            let error = self.refused(&error);
            if let Some(ticket) = ticket {
                ticket.fail(error.clone());
            }
            return Err(error);
        }
        if let Some(ticket) = ticket {
            ticket.reach(Progress::Appended, id);
        }
        Ok(())
    }

    fn flushed_alone(
        self: Rc<Self>,
        id: LogId,
        ticket: Option<Rc<Ticket>>,
        answer: Answer,
        result: Result<(), StorageError>,
    ) {
        match result {
            Ok(()) => {
                if let Some(ticket) = ticket {
                    ticket.reach(Progress::Flushed, id);
                }
                // Write caching may have been turned off in between: then a later one was told at once.
                if self.replica.applied() < Some(id) {
                    self.replica.advance(id);
                }
                answer.give(Ok(id));
            }
            // It is in the log but may not be on disk: nothing can mend that.
            Err(error) => {
                let fault = ProposeError::Storage(error);
                self.fail_for_good(fault.clone());
                answer.give(Err(fault));
            }
        }
        self.ended_alone();
    }

    fn ended_alone(&self) {
        self.alone.set(self.alone.get() - 1);
        if self.alone.get() == 0 && matches!(*self.phase.borrow(), Phase::Building) {
            self.changed.notify_all();
        }
    }

    /// Claims the term for what waits. Cold only.
    pub(super) fn claim(self: &Rc<Self>) {
        self.phase.replace(Phase::Building);
        let slot = self.clone();
        let claiming = async move {
            let claimed = slot.replica.claim_term().await;
            if let Err(error) = &claimed {
                slot.refused(error);
            }
            slot.claimed.set(claimed.is_ok());
            slot.phase.replace(Phase::Cold);
            slot.forget_fault();
            slot.go_on_alone();
            slot.changed.notify_all();
        };
        task::spawn(Queue::Serve, "raft-claim", claiming).detach();
    }

    /// True while the log is being asked to append.
    pub(crate) fn is_appending(&self) -> bool {
        self.appending.get()
    }

    /// Takes up what has waited while there was an instance, or the claim was on its way.
    pub(super) fn go_on_alone(self: &Rc<Self>) {
        if !self.claimed.get() {
            return;
        }
        while let Some((produce, answer)) = self.next_waiting() {
            // In order, and without an await: proposals made from now on come after these.
            if let Err(error) = self.append_alone(produce, answer) {
                let rest = self.waiting.take();
                rest.into_iter().for_each(|(_, answer)| answer.give(Err(error.clone())));
                self.next.set(self.replica.log.bounds().log_end);
            }
        }
    }
}
