//! One io_uring per shard, for sockets and files alike, and the task that drives it.
//!
//! `ring` is the set-up, `pump` the loop (submit, reap, wake, sleep), `ops` the one-shot operations with the memory
//! they lend to the kernel, `timers` the deadlines, `remote` the way in from other threads. The sockets' state is
//! `net`'s; the reactor only carries it.

mod offload;
pub(crate) mod ops;
pub(crate) mod pump;
mod remote;
pub(crate) mod ring;
pub(crate) mod timers;

pub(crate) use remote::{Remote, mail};

use crate::{
    net::{Area, NetState},
    ready,
    sync::Event,
};
use io_uring::squeue;
use ops::Ops;
use ring::Ring;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    sync::Arc,
    task::Waker,
};
use timers::Timers;

const SQ_ENTRIES: u32 = 1024;
const CQ_ENTRIES: u32 = 8192;

/// Which part of the reactor a completion belongs to: the upper half of its user data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    Op = 1,
    Accept = 2,
    Recv = 3,
    Send = 4,
    Ignored = 5,
    Timeout = 6,
    Eventfd = 7,
}

pub(crate) fn tag(kind: Kind, i: u32) -> u64 {
    (kind as u64) << 32 | u64::from(i)
}

/// Counters of one shard's reactor, from its start.
#[derive(Clone, Copy, Default, Debug)]
pub struct ReactorStats {
    /// Turns of the pump.
    pub turns: u64,
    /// System calls that submitted or looked for completions.
    pub enters: u64,
    pub completions: u64,
    /// Times the shard had nothing to do.
    pub sleeps: u64,
    /// Receives that ended because the receive memory was used up.
    pub starved: u64,
}

pub(crate) struct Reactor {
    pub remote: Arc<Remote>,
    ring: RefCell<Ring>,
    /// Entries that did not go to the kernel yet.
    queued: RefCell<VecDeque<squeue::Entry>>,
    pub ops: RefCell<Ops>,
    pub net: RefCell<NetState>,
    /// Receive memory, from the first socket on.
    pub area: RefCell<Option<Area>>,
    pub timers: RefCell<Timers>,
    time_out: RefCell<pump::TimeOut>,
    mail: [Event; mail::KINDS],
    /// The pump gives way to ready tasks, until there is something to submit, none is left, or it is overdue.
    giving_way: Cell<bool>,
    /// There is something for the pump's next turn.
    wanted: Cell<bool>,
    pump: RefCell<Option<Waker>>,
    /// The ring waits for the eventfd.
    watching: Cell<bool>,
    /// Cycle counter at the pump's last turn.
    turned: Cell<u64>,
    /// The pump shall end once nothing is in flight.
    closing: Cell<bool>,
    closed: Event,
    /// The pump has ended: what is closed from here on is closed with a system call.
    ended: Cell<bool>,
    pub stats: Cell<ReactorStats>,
}

impl Reactor {
    pub fn new(remote: Arc<Remote>) -> io::Result<Reactor> {
        let ring = Ring::new(SQ_ENTRIES, CQ_ENTRIES)?;
        Ok(Reactor {
            remote,
            ring: RefCell::new(ring),
            queued: RefCell::default(),
            ops: RefCell::default(),
            net: RefCell::default(),
            area: RefCell::new(None),
            timers: RefCell::default(),
            time_out: RefCell::default(),
            mail: Default::default(),
            giving_way: Cell::new(false),
            wanted: Cell::new(false),
            pump: RefCell::new(None),
            watching: Cell::new(false),
            turned: Cell::new(crate::clock::ticks()),
            closing: Cell::new(false),
            closed: Event::new(),
            ended: Cell::new(false),
            stats: Cell::default(),
        })
    }

    /// Queues an entry for the pump's next turn.
    pub fn submit(&self, e: squeue::Entry) {
        self.queued.borrow_mut().push_back(e);
        self.wanted.set(true);
    }

    /// The pump shall have a turn although nothing was submitted.
    pub fn want_turn(&self) {
        self.wanted.set(true);
    }

    /// True once no operation can be submitted any more.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Before every poll of a task. True if the pump has not turned for more than `after` ticks: then the running queue
    /// should give way.
    #[inline]
    pub fn before_poll(&self, now: u64, after: u64) -> bool {
        let overdue = now.wrapping_sub(self.turned.get()) > after;
        if overdue {
            self.turned.set(now);
            self.wake_pump();
        }
        overdue
    }

    /// After every poll of a task.
    #[inline]
    pub fn after_poll(&self) {
        if self.wanted.get() || ready::count() == 0 {
            self.wake_pump();
        }
    }

    #[inline]
    fn wake_pump(&self) {
        if self.giving_way.replace(false)
            && let Some(pump) = &*self.pump.borrow()
        {
            pump.wake_by_ref();
        }
    }

    /// Notified when mail of `kind` (one bit) has come.
    pub fn mail_event(&self, kind: u32) -> &Event {
        &self.mail[kind.trailing_zeros() as usize]
    }

    pub fn count(&self, f: impl FnOnce(&mut ReactorStats)) {
        let mut s = self.stats.get();
        f(&mut s);
        self.stats.set(s);
    }

    pub(crate) fn with_ring<T>(&self, f: impl FnOnce(&mut Ring) -> T) -> T {
        f(&mut self.ring.borrow_mut())
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // The kernel must be done with our memory before it goes.
        let ring = self.ring.get_mut();
        let _ = ring.uring.submitter().register_sync_cancel(None, io_uring::types::CancelBuilder::any());
    }
}

/// Counters of the calling shard's reactor. Panics outside a shard.
pub fn reactor_stats() -> ReactorStats {
    crate::shard::lane::current().reactor.stats.get()
}
