//! One io_uring per shard. The sockets' state is `net`'s; the reactor only carries it.

use super::{
    ReactorStats, Remote, mail,
    ops::{Ops, Work},
    pump,
    ring::Ring,
    timers::Timers,
    turns::Turns,
};
use crate::{
    net::{Areas, NetState},
    ready,
    sync::Event,
};
use io_uring::squeue;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    sync::Arc,
    task::Waker,
};

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

pub(crate) struct Reactor {
    pub remote: Arc<Remote>,
    pub(super) ring: RefCell<Ring>,
    /// Entries that did not go to the kernel yet.
    pub(super) queued: RefCell<VecDeque<squeue::Entry>>,
    pub ops: RefCell<Ops>,
    pub net: RefCell<NetState>,
    /// Receive memory, from the first socket on.
    pub areas: RefCell<Option<Areas>>,
    pub timers: RefCell<Timers>,
    pub(super) time_out: RefCell<pump::TimeOut>,
    pub(super) mail: [Event; mail::KINDS],
    /// The pump gives way to ready tasks, until there is something to submit, none is left, or it is overdue.
    pub(super) giving_way: Cell<bool>,
    /// There is something for the pump's next turn.
    pub(super) wanted: Cell<bool>,
    pub(super) pump: RefCell<Option<Waker>>,
    /// Tasks that have had the core for long: each of the pump's turns wakes one.
    pub(super) long_running: Turns,
    /// The ring waits for the eventfd.
    pub(super) watching: Cell<bool>,
    /// Cycle counter at the pump's last turn.
    pub(super) turned: Cell<u64>,
    /// The pump shall end once nothing is in flight.
    pub(super) closing: Cell<bool>,
    pub(super) closed: Event,
    /// The pump has ended: what is closed from here on is closed with a system call.
    pub(super) ended: Cell<bool>,
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
            areas: RefCell::new(None),
            timers: RefCell::default(),
            time_out: RefCell::default(),
            mail: Default::default(),
            giving_way: Cell::new(false),
            wanted: Cell::new(false),
            pump: RefCell::new(None),
            long_running: Turns::default(),
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

    /// Queues the operation in slot `i`, or the rest of it.
    pub(super) fn submit_op(&self, i: u32, work: &Work) {
        self.submit(work.entry().user_data(tag(Kind::Op, i)));
    }

    /// The pump shall have a turn although nothing was submitted.
    pub fn want_turn(&self) {
        self.wanted.set(true);
    }

    /// Waits for the turn of a task that has had the core for long, among others like it.
    pub async fn take_turns(&self, behind: bool) {
        self.want_turn();
        self.long_running.wait(behind).await
    }

    /// Ticks since the pump's last turn.
    pub fn since_turn(&self) -> u64 {
        crate::clock::ticks().wrapping_sub(self.turned.get())
    }

    pub fn someone_waits_for_a_turn(&self) -> bool {
        !self.long_running.is_empty()
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
