//! What stands for the ring in a simulation: operations complete at times of the seed's choosing, done by the machine's disk.

use super::{disk::Begun, world::World};
use crate::{
    reactor::{
        ReactorStats, Remote, mail,
        ops::{Ops, Work},
        timers::Timers,
    },
    sync::Event,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    rc::Rc,
    sync::Arc,
    task::Waker,
};

pub(crate) struct Reactor {
    pub remote: Arc<Remote>,
    pub world: Arc<World>,
    pub ops: RefCell<Ops>,
    pub timers: RefCell<Timers>,
    /// By time of completion and number: the slots of operations under way.
    due: RefCell<BTreeMap<(u64, u64), (u32, Begun)>>,
    begun: Cell<u64>,
    mail: [Event; mail::KINDS],
    closing: Cell<bool>,
    closed: Event,
    ended: Cell<bool>,
    pub stats: Cell<ReactorStats>,
}

/// The executor does what the pump does.
pub(crate) mod pump {
    use crate::shard::lane::Lane;
    use std::rc::Rc;

    pub(crate) fn start(_lane: Rc<Lane>) {}
}

impl Reactor {
    pub fn new(remote: Arc<Remote>) -> io::Result<Reactor> {
        Ok(Reactor {
            remote,
            world: super::world::current_or_new(),
            ops: RefCell::default(),
            timers: RefCell::default(),
            due: RefCell::default(),
            begun: Cell::new(0),
            mail: Default::default(),
            closing: Cell::new(false),
            closed: Event::new(),
            ended: Cell::new(false),
            stats: Cell::default(),
        })
    }

    /// Begins the operation in slot `i`, or the rest of it.
    pub fn submit_op(&self, i: u32, work: &Work) {
        if self.ended.get() || !self.world.disk_event() {
            return;
        }
        let begun = self.world.disk().begin(work);
        let number = self.begun.get();
        self.begun.set(number + 1);
        self.due.borrow_mut().insert((self.world.now() + begun.takes_ns, number), (i, begun));
    }

    /// Mail, completions and deadlines that are due. True if there was anything.
    pub fn turn(self: &Rc<Self>) -> bool {
        let mut wake = Vec::new();
        let mut mail = self.remote.take();
        let mut did = mail != 0;
        while mail != 0 {
            self.mail[mail.trailing_zeros() as usize].notify_all();
            if mail & mail::WAKE != 0 {
                wake.extend(self.remote.take_woken().into_iter().map(Waker::from));
            }
            mail &= mail - 1;
        }
        let mut completions = 0;
        while let Some(done) = self.take_due() {
            if !self.world.disk_event() {
                self.due.borrow_mut().insert((0, 0), done);
                return true;
            }
            let (i, begun) = done;
            let result = match self.ops.borrow_mut().work(i) {
                Some(work) => self.world.disk().perform(work, &begun, self.world.wall_ms()),
                None => continue,
            };
            self.world.note(u64::from(i) << 32 | u64::from(result as u32));
            self.op_completed(i, result, &mut wake);
            completions += 1;
        }
        did |= completions > 0;
        let before = wake.len();
        self.timers.borrow_mut().fire(self.world.now(), &mut wake);
        did |= self.world.net().deliver(self.world.now(), &mut wake) || wake.len() > before;
        wake.into_iter().for_each(Waker::wake);
        if self.closing.get() && !self.ended.get() && self.ops.borrow().in_flight() == 0 {
            self.ended.set(true);
            self.closed.notify_all();
            did = true;
        }
        let mut s = self.stats.get();
        s.turns += u64::from(did);
        s.completions += completions;
        self.stats.set(s);
        did
    }

    fn take_due(&self) -> Option<(u32, Begun)> {
        let mut due = self.due.borrow_mut();
        let first = due.first_entry()?;
        if first.key().0 <= self.world.now() { Some(first.remove()) } else { None }
    }

    /// When the next thing happens here by itself.
    pub fn next_due(&self) -> Option<u64> {
        let op = self.due.borrow().first_key_value().map(|(at, _)| at.0);
        let timer = self.timers.borrow().next();
        [op, timer, self.world.net().next_due()].into_iter().flatten().min()
    }

    /// The machine or the process is lost: what is under way is done, done in part, or not.
    pub fn lose(&self) {
        self.ended.set(true);
        let due = self.due.take();
        for (i, begun) in due.into_values() {
            if let Some(work) = self.ops.borrow_mut().work(i) {
                self.world.disk().lose_in_flight(work, &begun, self.world.wall_ms());
            }
        }
    }

    /// After the last task: nothing is waited for any more.
    pub fn forget(&self) {
        self.ended.set(true);
        self.due.take();
        let ops = self.ops.take();
        drop(ops);
        self.timers.take();
    }

    /// True once no operation can be submitted any more.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The executor counts the time of a poll.
    pub fn before_poll(&self, _now: u64, _after: u64) -> bool {
        false
    }

    pub fn after_poll(&self) {}

    /// The executor itself says who shall yield.
    pub fn since_turn(&self) -> u64 {
        0
    }

    /// Notified when mail of `kind` (one bit) has come.
    pub fn mail_event(&self, kind: u32) -> &Event {
        &self.mail[kind.trailing_zeros() as usize]
    }

    /// Waits until nothing is in flight.
    pub async fn close(&self) {
        self.closing.set(true);
        while !self.ended.get() {
            self.closed.listen().await;
        }
    }
}
