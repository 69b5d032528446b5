//! One proposed batch on its way: appended, flushed, applied.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use corelane_storage::model::{LogId, NodeId, Offset};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;

use crate::slot::Slot;
use crate::type_config::{TypeConfig, log_id};
use corelane_storage::StorageError;

/// Why a proposal did not come through.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads the group, or none; nothing was appended. Ask `leader`.
    #[error("not the leader")]
    NotLeader { leader: Option<NodeId> },
    /// The entry was appended here and then replaced by another leader's. Whether it was committed is not known.
    #[error("the entry was replaced by a later leader's")]
    Discarded,
    /// [`PROPOSALS_MAX`](crate::PROPOSALS_MAX) proposals of the group are on their way; nothing was appended. Try again
    /// when one of them is done.
    #[error("too many proposals in flight")]
    Busy,
    /// The batch does not start where the log goes on; nothing was appended. The next one must start at `next`.
    #[error("the next batch must start at offset {next}")]
    OutOfOrder { next: Offset },
    /// The group's log failed. `DiskFull` and `Io`: nothing was appended, try again later. Anything else: the group is
    /// fenced until the process starts again, and whether the entry is on disk is not known.
    #[error(transparent)]
    Storage(StorageError),
    /// What the log holds makes no sense to Raft: the group is fenced until the process starts again.
    #[error("inconsistent log: {0}")]
    Inconsistent(Arc<str>),
    /// A task of the group panicked: the group is fenced until the process starts again.
    #[error("a task of the group panicked: {0}")]
    Panicked(Arc<str>),
    /// The group was stopped; nothing was appended.
    #[error("the group is stopped")]
    Shutdown,
}

impl ProposeError {
    /// The batch is not in the log and never will be.
    pub fn appended_nothing(&self) -> bool {
        match self {
            ProposeError::Busy | ProposeError::OutOfOrder { .. } => true,
            ProposeError::Storage(StorageError::DiskFull { .. }) => true,
            ProposeError::NotLeader { .. }
            | ProposeError::Discarded
            | ProposeError::Storage(_)
            | ProposeError::Inconsistent(_)
            | ProposeError::Panicked(_)
            | ProposeError::Shutdown => false,
        }
    }
}

/// How far a proposal has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// In the log of this replica, in order and readable; not yet on disk.
    Appended,
    /// On this replica's disk.
    Flushed,
    /// On the disks of a quorum and below the high watermark. With more than one voter this may come before `Flushed`.
    Applied,
}

impl Progress {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A proposed batch; clones are the same one. Dropping it does not withdraw the batch.
#[derive(Clone, Debug)]
pub struct Proposal(Rc<Ticket>);

impl Proposal {
    /// Waits until the batch is in this replica's log.
    pub fn appended(&self) -> Reached {
        self.reached(Progress::Appended)
    }

    /// Waits until the batch is on this replica's disk (acks=1).
    pub fn flushed(&self) -> Reached {
        self.reached(Progress::Flushed)
    }

    /// Waits until the batch is on the disks of a quorum and readers can see it (acks=all).
    pub fn applied(&self) -> Reached {
        self.reached(Progress::Applied)
    }

    /// The batch will come no further than it has.
    pub fn is_failed(&self) -> bool {
        self.0.failed.borrow().is_some()
    }

    fn reached(&self, progress: Progress) -> Reached {
        Reached { ticket: self.0.clone(), progress }
    }
}

/// Ready when a proposal has come as far as asked, with the entry's id, or can no longer.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Reached {
    ticket: Rc<Ticket>,
    progress: Progress,
}

impl Future for Reached {
    type Output = Result<LogId, ProposeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = &self.ticket;
        if ticket.has_reached(self.progress) {
            return Poll::Ready(Ok(ticket.id.get()));
        }
        if let Some(error) = &*ticket.failed.borrow() {
            return Poll::Ready(Err(error.clone()));
        }
        ticket.waiters.borrow_mut().add(self.progress, cx.waker());
        Poll::Pending
    }
}

/// What a proposal's steps are noted on. Shared by the proposer, the log store and the responder.
#[derive(Default)]
pub(crate) struct Ticket {
    reached: Cell<u8>,
    id: Cell<LogId>,
    failed: RefCell<Option<ProposeError>>,
    waiters: RefCell<Waiters>,
}

/// Who waits for a step: nearly always one task, for one step at a time.
#[derive(Default)]
struct Waiters {
    first: Option<(Progress, Waker)>,
    more: Vec<(Progress, Waker)>,
}

impl Waiters {
    fn add(&mut self, progress: Progress, waker: &Waker) {
        match &mut self.first {
            None => self.first = Some((progress, waker.clone())),
            Some((p, w)) if *p == progress && w.will_wake(waker) => {}
            Some(_) if self.more.iter().any(|(p, w)| *p == progress && w.will_wake(waker)) => {}
            Some(_) => self.more.push((progress, waker.clone())),
        }
    }

    fn take(&mut self, progress: Progress) -> impl Iterator<Item = Waker> + use<> {
        let first = self.first.take_if(|(p, _)| *p == progress);
        let more = self.more.extract_if(.., |(p, _)| *p == progress).collect::<Vec<_>>();
        first.into_iter().chain(more).map(|(_, waker)| waker)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({:?}, {:#b})", self.id.get(), self.reached.get())
    }
}

impl Ticket {
    pub(crate) fn proposal(self: &Rc<Self>) -> Proposal {
        Proposal(self.clone())
    }

    fn has_reached(&self, progress: Progress) -> bool {
        self.reached.get() & progress.bit() != 0
    }

    pub(crate) fn reach(&self, progress: Progress, id: LogId) {
        self.id.set(id);
        self.reached.set(self.reached.get() | progress.bit());
        let waiters = self.waiters.borrow_mut().take(progress);
        waiters.for_each(Waker::wake);
    }

    /// Fails every step not reached yet; the first error stays.
    pub(crate) fn fail(&self, error: ProposeError) {
        self.failed.borrow_mut().get_or_insert(error);
        let Waiters { first, more } = self.waiters.take();
        first.into_iter().chain(more).for_each(|(_, waker)| waker.wake());
    }
}

/// openraft's application data: a Kafka record batch, passed on without a copy.
pub(crate) struct Produce {
    /// The batch with its offsets set. Empty in entries that are read back to be applied.
    pub batch: Bytes,
    /// Taken by the log store; `None` in entries that are read back.
    pub ticket: Option<Rc<Ticket>>,
}

impl fmt::Debug for Produce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.batch.len())
    }
}

impl fmt::Display for Produce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// openraft's responder: gives a proposal its last answer. openraft drops it unanswered when the core stops; then the
/// group knows why.
pub(crate) struct Answer {
    slot: Rc<Slot>,
    ticket: Option<Rc<Ticket>>,
}

impl Answer {
    /// Counts the proposal as in flight until it is answered.
    pub(crate) fn new(slot: Rc<Slot>, ticket: Rc<Ticket>) -> Answer {
        slot.proposal_begins();
        Answer { slot, ticket: Some(ticket) }
    }

    pub(crate) fn give(mut self, answer: Result<LogId, ProposeError>) {
        self.settle(answer);
    }

    fn settle(&mut self, answer: Result<LogId, ProposeError>) {
        let Some(ticket) = self.ticket.take() else { return };
        match answer {
            Ok(id) => ticket.reach(Progress::Applied, id),
            Err(error) => ticket.fail(error),
        }
        self.slot.proposal_ends();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.slot.is_appending() {
            // The log refused the batch: whoever asked it says so.
            self.ticket = None;
            self.slot.proposal_ends();
        } else if self.ticket.is_some() {
            let error = if std::thread::panicking() {
                // The panic's own message reaches the group when the unwinding is over.
                ProposeError::Panicked("while it handled this proposal".into())
            } else {
                self.slot.stop_reason()
            };
            self.settle(Err(error));
        }
    }
}

impl<T: 'static> Responder<TypeConfig, T> for Answer {
    fn on_complete(self, result: T) {
        // The only use openraft makes of it is for the result of a client write.
        let answer = match (&result as &dyn Any).downcast_ref::<ClientWriteResult<TypeConfig>>() {
            Some(Ok(written)) => Ok(log_id(&written.log_id)),
            Some(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeError::Discarded),
            Some(Err(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: to.leader_id.map(NodeId) })
            }
            Some(Err(_)) | None => Err(ProposeError::NotLeader { leader: None }),
        };
        self.give(answer);
    }
}
