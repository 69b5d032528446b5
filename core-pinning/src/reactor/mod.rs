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
    /// Times the executor was made to look at its own rings.
    pub polls: u64,
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
    kicked: Cell<bool>,
    /// The pump, while it sleeps.
    parked: RefCell<Option<Waker>>,
    /// The pump, while it waits for the executor to look at its own rings.
    polling: RefCell<Option<Waker>>,
    /// Other tasks kept the executor busy for too long while the pump waited.
    overdue: Cell<bool>,
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
        let ring = Ring::new(SQ_ENTRIES, CQ_ENTRIES, remote.fd())?;
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
            kicked: Cell::new(false),
            parked: RefCell::new(None),
            polling: RefCell::new(None),
            overdue: Cell::new(false),
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
        self.kick();
    }

    /// There is something to do: makes sure that the pump turns.
    #[inline]
    pub fn kick(&self) {
        if self.kicked.replace(true) {
            return;
        }
        let parked = self.parked.borrow_mut().take();
        if let Some(w) = parked {
            w.wake();
        }
    }

    /// True once no operation can be submitted any more.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    #[inline]
    pub fn turned(&self) -> u64 {
        self.turned.get()
    }

    /// The pump has not turned for too long, because it sleeps while other tasks keep the executor busy.
    pub fn overdue(&self, now: u64) {
        self.turned.set(now);
        self.kicked.set(true);
        self.overdue.set(true);
        let waiting = [self.parked.borrow_mut().take(), self.polling.borrow_mut().take()];
        waiting.into_iter().flatten().for_each(Waker::wake);
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
