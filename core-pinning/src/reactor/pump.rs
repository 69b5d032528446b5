//! The pump: the task that submits for everybody, reaps, wakes, and puts the shard to sleep.
//!
//! glommio is never relied upon to notice anything while the shard is busy: mail from other threads, deadlines and all
//! I/O are looked at in every turn. (A waker that another thread calls directly is the exception: it is seen when the
//! queues run dry. Use the mesh or the inbox.) Asleep, the shard waits in glommio for one thing, the eventfd, which the ring
//! signals at completions and other threads write to.
//!
//! Against lost wake-ups: switch the ring's eventfd on and say that we sleep, full fence, look at everything once more,
//! and only then sleep. Looking at the ring includes the task-run flag: one enter runs only about twenty deferred
//! completions, the flag tells that more are left.

use super::{Kind, Reactor, tag};
use crate::{clock, net, rt, shard::lane::Lane, task::Queue, time::Instant};
use io_uring::{
    opcode,
    types::{TimeoutFlags, Timespec},
};
use std::{
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::atomic::{Ordering, fence},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// While the shard is busy the executor is made to look at its own rings this often. Nothing of ours waits for that,
/// only wakers called directly from other threads.
const POLL_EVERY_US: u64 = 1000;
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
pub(crate) fn start(lane: Rc<Lane>) -> io::Result<()> {
    let wake_fd = rt::WakeFd::new(lane.reactor.remote.fd())?;
    rt::spawn(Queue::Serve, async move {
        let mut run = pin!(run(lane.clone(), wake_fd));
        let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
            Ok(p) => p.map(|r| r.map_err(|e| Box::new(format!("the ring failed: {e}")) as _)),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await;
        lane.reactor.ended.set(true);
        if let Err(panic) = ended {
            lane.fail(lane.name_number("pump"), panic);
        }
        lane.reactor.closed.notify_all();
    });
    Ok(())
}

async fn run(lane: Rc<Lane>, mut wake_fd: rt::WakeFd) -> io::Result<()> {
    let r = lane.reactor.clone();
    let name = lane.name_number("pump");
    let poll_every = POLL_EVERY_US * clock::ticks_per_us();
    let (mut wake, mut polled) = (Vec::new(), clock::ticks());
    let mut close_by = None;
    loop {
        lane.published.enter(name, clock::ticks());
        let did = r.turn(&mut wake)?;
        wake.drain(..).for_each(Waker::wake);
        lane.published.leave();
        if did {
            if r.turned.get().wrapping_sub(polled) >= poll_every {
                r.let_executor_poll(&mut wake_fd).await;
                polled = clock::ticks();
            } else {
                rt::yield_queue().await;
            }
            continue;
        }
        if r.closing.get() {
            let by = *close_by.get_or_insert_with(|| crate::time::now() + CLOSE_WITHIN);
            if !r.in_flight() || crate::time::now() >= by {
                break;
            }
            r.wake_at_least_by(by);
        }
        if r.arm_time_out() {
            continue;
        }
        r.sleep(&mut wake_fd).await;
        polled = clock::ticks();
    }
    // leave no read behind that would outlive the executor
    if wake_fd.is_armed() {
        r.remote.signal();
        poll_fn(|cx| wake_fd.poll_woken(cx)).await;
    }
    wake_fd.close().await;
    Ok(())
}

impl Reactor {
    /// One turn: mail, submissions, completions, deadlines. True if there was anything.
    fn turn(self: &Rc<Self>, wake: &mut Vec<Waker>) -> io::Result<bool> {
        self.kicked.set(false);
        self.overdue.set(false);
        self.turned.set(clock::ticks());
        let mut mail = self.remote.take();
        let mut did = mail != 0;
        while mail != 0 {
            self.mail[mail.trailing_zeros() as usize].notify_all();
            mail &= mail - 1;
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
                ring.enter(n)?;
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

    /// Sleeps until a completion, a deadline, mail or a local task wants something.
    async fn sleep(&self, wake_fd: &mut rt::WakeFd) {
        self.with_ring(|ring| ring.uring.completion().enable_eventfd());
        let mail = self.remote.going_to_sleep();
        fence(Ordering::SeqCst); // our stores before our looks; the kernel and the senders order the reverse
        let busy = mail
            || self.kicked.get()
            || self.with_ring(|ring| {
                let completions = !ring.uring.completion().is_empty();
                let sq = ring.uring.submission();
                completions || sq.taskrun() || sq.cq_overflow() || !sq.is_empty()
            });
        if !busy {
            self.count(|s| s.sleeps += 1);
            poll_fn(|cx| {
                if wake_fd.poll_woken(cx).is_ready() || self.kicked.get() {
                    return Poll::Ready(()); // if only kicked, the read stays armed for the next sleep
                }
                *self.parked.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            let parked = self.parked.borrow_mut().take();
            drop(parked);
        }
        self.remote.awake();
        self.with_ring(|ring| ring.uring.completion().disable_eventfd());
    }

    /// No yield makes glommio look at its rings, only queues that run dry: so wait for a read that is ready already.
    /// If the queues do not run dry for too long, a task's poll ends the wait (`overdue`).
    async fn let_executor_poll(&self, wake_fd: &mut rt::WakeFd) {
        self.count(|s| s.polls += 1);
        self.remote.signal();
        poll_fn(|cx: &mut Context<'_>| {
            if wake_fd.poll_woken(cx).is_ready() || self.overdue.get() {
                return Poll::Ready(());
            }
            *self.polling.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let polling = self.polling.borrow_mut().take();
        drop(polling);
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
        self.kick();
        while !self.ended.get() {
            self.closed.listen().await;
        }
    }
}
