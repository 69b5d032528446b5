//! One group on this shard: its replica, its openraft instance while there is one, and the way from one to the other.
//!
//! ```text
//!            first need                     built
//!   Cold ----------------> Building -------------------> Hot
//!    ^ ^                       | failed: fenced           | quiet, or room is needed, or stopped, or fenced
//!    | +-----------------------+                          v
//!    +------------------------------------------------ Dropping
//! ```
//! A cold group without peers appends by itself (`alone`), once it has claimed its term, which counts as building. Proposals
//! that come while it builds or drops wait in `waiting`, in order; so nothing is lost and nothing overtakes. An instance is
//! dropped only when nothing is in flight (or the group is fenced), and the next is built only when the last task of the one
//! before has ended: two never write to one log.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use core_pinning::sync::Event;
use core_pinning::time::{self, Instant};
use corelane_storage::model::Offset;
use corelane_storage::record::BatchHeader;
use futures::FutureExt;
use openraft::async_runtime::WatchReceiver;

use crate::PROPOSALS_MAX;
use crate::proposal::{Answer, Produce, Proposal, ProposeError, Ticket};
use crate::registry::Registry;
use crate::replica::Replica;
use crate::runtime::scope::Scope;
use crate::type_config::Raft;

mod alone;
mod fault;
mod lifecycle;
mod usage;

use fault::Fault;
pub(crate) use usage::Editing;

/// A group on its shard.
pub(crate) struct Slot {
    pub replica: Replica,
    registry: Rc<Registry>,
    phase: RefCell<Phase>,
    /// Proposals for the next instance.
    waiting: RefCell<VecDeque<(Produce, Answer)>>,
    /// Where the next batch starts.
    next: Cell<Offset>,
    /// Proposals not answered yet, waiting ones included.
    in_flight: Cell<usize>,
    /// Those of them that went straight into the log.
    alone: Cell<usize>,
    /// The vote on disk is the one this node leads with.
    claimed: Cell<bool>,
    /// The log is being asked to append: what it calls back now must not move anything.
    appending: Cell<bool>,
    /// Control operations that use the instance or edit a cold replica.
    users: Cell<usize>,
    /// One of them changes the replica and wants to be the only one that does.
    editing: Cell<bool>,
    /// When the last proposal or control operation ended.
    used: Cell<Instant>,
    /// The phase, `in_flight` or `users` may have changed.
    changed: Event,
    /// What went wrong. Cleared with the instance it went wrong with, if it can pass.
    fault: RefCell<Option<Fault>>,
    stopping: Cell<bool>,
}

enum Phase {
    /// Only the persisted state.
    Cold,
    Building,
    Hot(Instance),
    Dropping,
}

/// An openraft instance.
#[derive(Clone)]
struct Instance {
    raft: Raft,
    scope: Rc<Scope>,
}

impl Instance {
    /// Puts a proposal into the instance's queue. The queue has more places than proposals may be in flight, so there is
    /// always room, and the send is done at its first poll: the order of calls is the order of entries. False if it was
    /// not; then the proposal has been dropped, and so answered.
    fn send(&self, produce: Produce, answer: Answer) -> bool {
        matches!(self.raft.client_write_ff(produce, Some(answer)).now_or_never(), Some(Ok(())))
    }
}

/// Where a proposal went, or goes.
enum Way {
    /// To the instance, if it took it.
    Sent(bool),
    Alone(Produce, Answer),
    Waits {
        cold: bool,
    },
}

impl Slot {
    pub fn new(replica: Replica, registry: Rc<Registry>) -> Rc<Slot> {
        Rc::new(Slot {
            next: Cell::new(replica.log.bounds().log_end),
            claimed: Cell::new(replica.has_claimed_term()),
            alone: Cell::new(0),
            appending: Cell::new(false),
            replica,
            registry,
            phase: RefCell::new(Phase::Cold),
            waiting: RefCell::default(),
            in_flight: Cell::new(0),
            users: Cell::new(0),
            editing: Cell::new(false),
            used: Cell::new(time::now()),
            changed: Event::new(),
            fault: RefCell::default(),
            stopping: Cell::new(false),
        })
    }

    pub fn propose(self: &Rc<Self>, batch: Bytes, base: Offset, last: Offset) -> Result<Proposal, ProposeError> {
        self.refusal()?;
        if self.in_flight.get() >= PROPOSALS_MAX {
            return Err(ProposeError::Busy);
        }
        debug_assert!(
            BatchHeader::parse(&batch).is_ok_and(|h| (h.base_offset == base || h.base_offset == Offset::ZERO)
                && h.last_offset_delta as i64 == last - base),
            "the batch does not have the offsets {base} to {last}"
        );
        let next = self.next.get();
        if base != next || last < base {
            return Err(ProposeError::OutOfOrder { next });
        }
        let ticket = Rc::new(Ticket::default());
        let produce = Produce { batch, ticket: Some(ticket.clone()) };
        let answer = Answer::new(self.clone(), ticket.clone());
        let way = match &*self.phase.borrow() {
            Phase::Hot(instance) => Way::Sent(instance.send(produce, answer)),
            Phase::Cold if self.claimed.get() => Way::Alone(produce, answer),
            phase => {
                self.waiting.borrow_mut().push_back((produce, answer));
                Way::Waits { cold: matches!(phase, Phase::Cold) }
            }
        };
        match way {
            Way::Sent(true) | Way::Waits { cold: false } => {}
            Way::Sent(false) => return Err(self.not_sent()),
            Way::Alone(produce, answer) => self.append_alone(produce, answer)?,
            Way::Waits { cold: true } => self.claim(),
        }
        self.next.set(last.next());
        Ok(ticket.proposal())
    }

    /// Why an instance did not take a proposal. It may have stopped for a fault, which is noted; nothing else can be.
    fn not_sent(self: &Rc<Self>) -> ProposeError {
        if let Err(fault) = self.refusal() {
            return fault;
        }
        debug_assert!(false, "the instance's queue is full or closed without a reason");
        let running = match &*self.phase.borrow() {
            Phase::Hot(instance) => instance.raft.metrics().borrow_watched().running_state.is_ok(),
            _ => false,
        };
        if running {
            return ProposeError::Busy;
        }
        // Never ask it again: openraft waits for the end of a core only once.
        self.fail_for_good(ProposeError::Inconsistent("openraft stopped".into()));
        self.stop_reason()
    }

    pub fn proposal_begins(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub fn proposal_ends(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.now_idle();
    }

    /// Something ended; if it was the last thing, tells those who wait for the slot to be idle.
    fn now_idle(&self) {
        if self.is_idle() {
            self.used.set(time::now());
            self.changed.notify_all();
            self.registry.slot_idle();
        }
    }

    /// When the last of what is counted ended.
    pub fn used(&self) -> Instant {
        self.used.get()
    }

    /// Nothing in flight and nobody at work on it.
    fn is_idle(&self) -> bool {
        self.in_flight.get() == 0 && self.users.get() == 0
    }

    pub fn next_offset(&self) -> Offset {
        self.next.get()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }
}
