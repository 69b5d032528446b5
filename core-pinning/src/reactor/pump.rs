//! The pump: the task that submits for everybody, reaps, wakes, and puts the shard to sleep.
//!
//! While tasks are ready (`ready` knows exactly) it gives way to them, until one of them wants something submitted, none
//! is left, or 200 us have passed; it has a queue of its own, so all that are ready in the running queue go first. When
//! no task is ready it blocks the thread in our ring: completions, the time-out of the earliest deadline, and the eventfd that other threads write to all end that.
//!
//! Tasks that have had the core for long take turns, one at each of the pump's: so however many they are, those that are ready for the
//! first time wait for one of them at most.
//!
//! Against lost wake-ups: say that we sleep, full fence, look at the mail once more, and only then block. A write to the
//! eventfd after that is a completion of the ring. Local tasks cannot want anything meanwhile: none runs.

use super::{Kind, Reactor, mail, tag};
use crate::{clock, net, ready, rt, shard::lane::Lane, time::Instant};
use io_uring::{
    cqueue, opcode,
    types::{Fd, TimeoutFlags, Timespec},
};
use std::{
    future::poll_fn,
    io,
    os::fd::AsRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// How long the end of a shard waits for operations that the kernel still has.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// The one time-out that the kernel holds for the earliest deadline.
#[derive(Default)]
pub(crate) struct TimeOut {
    /// Deadline, and the number in its user data.
    armed: Option<(u64, u32)>,
    number: u32,
    /// What the submitted entry points at; the kernel copies it during the enter.
    at: Box<Timespec>,
}

/// Starts the pump of `lane` on the running executor.
pub(crate) fn start(lane: Rc<Lane>) {
    rt::spawn_pump(async move {
        let mut run = pin!(run(lane.clone()));
        let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
            Ok(p) => p.map(|r| r.map_err(|e| Box::new(format!("the ring failed: {e}")) as _)),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await;
        let reactor = &lane.reactor;
        reactor.ended.set(true);
        reactor.giving_way.set(false);
        drop(reactor.pump.borrow_mut().take());
        if let Err(panic) = ended {
            lane.fail(lane.name_number("pump"), panic);
        }
        reactor.closed.notify_all();
    });
}

async fn run(lane: Rc<Lane>) -> io::Result<()> {
    let r = lane.reactor.clone();
    let name = lane.name_number("pump");
    let mut wake = Vec::new();
    let mut close_by = None;
    loop {
        lane.published.enter(name, clock::ticks());
        let did = r.turn(&mut wake)?;
        wake.drain(..).for_each(Waker::wake);
        lane.published.leave();
        if ready::count() > 0 {
            r.give_way().await;
            continue;
        }
        if did {
            continue;
        }
        if r.closing.get() {
            let by = *close_by.get_or_insert_with(|| crate::time::now() + CLOSE_WITHIN);
            if !r.in_flight() || crate::time::now() >= by {
                return Ok(());
            }
            r.wake_at_least_by(by);
        }
        if !r.arm_time_out() {
            r.block()?;
        }
    }
}

impl Reactor {
    /// One turn: mail, submissions, completions, deadlines. True if there was anything.
    fn turn(self: &Rc<Self>, wake: &mut Vec<Waker>) -> io::Result<bool> {
        self.turned.set(clock::ticks());
        self.wanted.set(false);
        let mut mail = self.remote.take();
        let mut did = mail != 0;
        while mail != 0 {
            self.mail[mail.trailing_zeros() as usize].notify_all();
            if mail & mail::WAKE != 0 {
                wake.extend(self.remote.take_woken().into_iter().map(Waker::from));
            }
            mail &= mail - 1;
        }
        if !self.watching.replace(true) {
            let e = opcode::PollAdd::new(Fd(self.remote.fd().as_raw_fd()), libc::POLLIN as u32).multi(true).build();
            self.submit(e.user_data(tag(Kind::Eventfd, 0)));
        }
        net::prepare(self);
        let (submitted, entered) = self.submit_queued()?;
        let completions = self.reap(wake);
        did |= submitted > 0 || completions > 0;
        {
            let mut timers = self.timers.borrow_mut();
            if timers.next().is_some() {
                let before = wake.len();
                timers.fire(clock::monotonic_ns(), wake);
                did |= wake.len() > before;
            }
        }
        if let Some(next) = self.long_running.next() {
            wake.push(next);
            did = true;
        }
        if !self.long_running.is_empty() {
            self.want_turn();
        }
        self.count(|s| {
            s.turns += 1;
            s.enters += u64::from(entered);
            s.completions += completions as u64;
        });
        Ok(did)
    }

    /// Moves queued entries into the ring and enters if there is anything to submit or to run.
    fn submit_queued(&self) -> io::Result<(usize, bool)> {
        self.with_ring(|ring| {
            let mut queued = self.queued.borrow_mut();
            let mut sq = ring.uring.submission();
            while let Some(e) = queued.front() {
                // SAFETY: what the entry points at is kept by its slot (ops, net, time_out) until the completion.
                #[allow(unsafe_code)]
                if unsafe { sq.push(e) }.is_err() {
                    break;
                }
                queued.pop_front();
            }
            let (n, pending) = (sq.len(), sq.taskrun() || sq.cq_overflow());
            drop((sq, queued));
            let enter = n > 0 || pending;
            if enter {
                ring.enter(n, 0)?;
            }
            Ok((n, enter))
        })
    }

    fn reap(self: &Rc<Self>, wake: &mut Vec<Waker>) -> usize {
        let mut n = 0;
        loop {
            // in handfuls, so that the ring is not borrowed while completions are handled
            let mut batch = [const { None }; 64];
            let got = self.with_ring(|ring| {
                let mut got = 0;
                for (slot, e) in batch.iter_mut().zip(ring.uring.completion()) {
                    *slot = Some((e.user_data(), e.result(), e.flags()));
                    got += 1;
                }
                got
            });
            for (user_data, result, flags) in batch.iter().flatten().copied() {
                let i = user_data as u32;
                match (user_data >> 32) as u32 {
                    k if k == Kind::Op as u32 => self.op_completed(i, result, wake),
                    k if k == Kind::Timeout as u32 => self.time_out_completed(i),
                    k if k == Kind::Eventfd as u32 => self.watching.set(cqueue::more(flags)),
                    _ => net::completed(self, user_data, result, flags, wake),
                }
            }
            n += got;
            if got < batch.len() {
                return n;
            }
        }
    }

    /// Before sleeping: the kernel shall wake us at the earliest deadline. True if that took a submission.
    fn arm_time_out(&self) -> bool {
        let Some(next) = self.timers.borrow().next() else { return false };
        let mut t = self.time_out.borrow_mut();
        if t.armed.is_some_and(|(at, _)| at <= next) {
            return false;
        }
        let mut queued = self.queued.borrow_mut();
        if let Some((_, number)) = t.armed {
            let old = opcode::TimeoutRemove::new(tag(Kind::Timeout, number)).build();
            queued.push_back(old.user_data(tag(Kind::Ignored, 0)));
        }
        t.number = t.number.wrapping_add(1);
        t.armed = Some((next, t.number));
        *t.at = Timespec::new().sec(next / 1_000_000_000).nsec((next % 1_000_000_000) as u32);
        let e = opcode::Timeout::new(&raw const *t.at).flags(TimeoutFlags::ABS).build();
        queued.push_back(e.user_data(tag(Kind::Timeout, t.number)));
        true
    }

    fn time_out_completed(&self, number: u32) {
        let mut t = self.time_out.borrow_mut();
        if t.armed.is_some_and(|(_, n)| n == number) {
            t.armed = None;
        }
    }

    /// Waits until a task's poll wakes it (`before_poll`, `after_poll`).
    async fn give_way(&self) {
        let mut first = true;
        poll_fn(|cx| {
            if !std::mem::take(&mut first) {
                return Poll::Ready(());
            }
            let mut pump = self.pump.borrow_mut();
            if !pump.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *pump = Some(cx.waker().clone());
            }
            self.giving_way.set(true);
            Poll::Pending
        })
        .await
    }

    /// Blocks the thread until the kernel has something for us.
    fn block(&self) -> io::Result<()> {
        if !self.remote.going_to_sleep() {
            self.count(|s| {
                s.sleeps += 1;
                s.enters += 1;
            });
            self.with_ring(|ring| ring.enter(0, 1))?;
        }
        self.remote.awake();
        Ok(())
    }

    fn in_flight(&self) -> bool {
        self.ops.borrow().in_flight() > 0 || self.net.borrow().in_flight()
    }

    /// While closing: a deadline of its own, so that a hanging operation cannot keep the shard for ever.
    fn wake_at_least_by(&self, by: Instant) {
        let mut timers = self.timers.borrow_mut();
        if timers.next().is_none() {
            timers.insert(0, by.as_nanos(), Waker::noop().clone());
        }
    }

    /// Lets the pump end once nothing is in flight, and waits for that.
    pub async fn close(&self) {
        self.closing.set(true);
        while !self.ended.get() {
            self.closed.listen().await;
        }
    }
}
