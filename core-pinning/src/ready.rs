//! Which tasks are ready: every waker of a shard's tasks is ours, so the number of scheduled tasks is known exactly,
//! and the pump may block the thread when there is none.
//!
//! A waker called on its shard counts the task and hands it to the executor. Called on another thread it travels as
//! mail and is called by the pump. The executor's own waker is touched on the shard's thread only.
#![allow(unsafe_code)]

use crate::{
    reactor::{Remote, mail},
    shard::lane,
};
use std::{
    cell::{Cell, UnsafeCell},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

thread_local! {
    /// The lane that this thread runs now; 0: none.
    static LANE: Cell<u64> = const { Cell::new(0) };
    /// Tasks of the lane that the executor will poll.
    static READY: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread a new lane.
pub(crate) fn begin_lane() {
    static LANES: AtomicU64 = AtomicU64::new(1);
    LANE.set(LANES.fetch_add(1, Ordering::Relaxed));
    READY.set(0);
}

/// The calling thread is no lane any more; what is woken from now on stays where it is.
pub(crate) fn end_lane() {
    LANE.set(0);
}

/// Tasks that are scheduled and have not been polled yet.
#[inline]
pub(crate) fn count() -> usize {
    READY.get()
}

/// One task, as its wakers know it.
pub(crate) struct WakeCell {
    lane: u64,
    remote: Arc<Remote>,
    /// Counted in `READY`. Touched on the lane's thread only, as is `executor`.
    scheduled: Cell<bool>,
    /// The executor's waker, from the first poll to the end of the task.
    executor: UnsafeCell<Option<Waker>>,
}

// SAFETY: the cells are touched only after `is_local`, that is, on the thread of the lane that made the value: wakers do
// so in `wake_by_ref`, and the task itself is `!Send`. Dropping the value elsewhere drops an empty `executor`: a lane
// ends only after all its tasks have ended, and each empties it at its end (`retire`).
unsafe impl Send for WakeCell {}
// SAFETY: as above.
unsafe impl Sync for WakeCell {}

impl WakeCell {
    fn is_local(&self) -> bool {
        LANE.get() == self.lane
    }

    /// The executor polls the task now.
    fn polled(&self, cx: &Context<'_>) {
        debug_assert!(self.is_local());
        self.scheduled.set(false);
        READY.set(READY.get() - 1);
        // SAFETY: on the lane's thread, and nothing else refers into the cell.
        let executor = unsafe { &mut *self.executor.get() };
        if executor.is_none() {
            *executor = Some(cx.waker().clone());
        }
    }

    /// The task has ended: wakers do nothing any more.
    fn retire(&self) {
        debug_assert!(self.is_local());
        if self.scheduled.replace(false) {
            READY.set(READY.get() - 1); // woken during its last poll
        }
        // SAFETY: as in `polled`; the waker is dropped after it was taken out.
        let executor = unsafe { (*self.executor.get()).take() };
        drop(executor);
    }
}

impl Wake for WakeCell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_local() {
            self.remote.wake_later(self.clone());
            self.remote.notify(mail::WAKE);
            return;
        }
        // SAFETY: on the lane's thread; waking the executor only puts the task into its queue.
        if let Some(executor) = unsafe { &*self.executor.get() }
            && !self.scheduled.replace(true)
        {
            READY.set(READY.get() + 1);
            executor.wake_by_ref();
        }
    }
}

pin_project_lite::pin_project! {
    /// A future that the executor polls, with wakers of ours. Scheduled from its making on.
    pub(crate) struct Counted<F> {
        #[pin]
        fut: F,
        cell: Arc<WakeCell>,
        waker: Waker,
    }
}

impl<F> Counted<F> {
    /// `fut` as a task of the calling lane, about to be handed to the executor.
    pub fn new(fut: F, remote: Arc<Remote>) -> Counted<F> {
        let executor = UnsafeCell::new(None);
        let cell = Arc::new(WakeCell { lane: LANE.get(), remote, scheduled: Cell::new(true), executor });
        READY.set(READY.get() + 1);
        Counted { fut, waker: cell.clone().into(), cell }
    }

    /// Wakes the task from anywhere.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.cell.polled(cx);
        let polled = this.fut.poll(&mut Context::from_waker(this.waker));
        if polled.is_ready() {
            this.cell.retire();
        }
        lane::with_reactor(|r| r.after_poll()); // last, when the count is right
        polled
    }
}

#[cfg(test)]
mod tests {
    use crate::{run_local, spawn_here, task::yield_now, time};
    use std::{
        cell::Cell,
        future::poll_fn,
        rc::Rc,
        task::{Poll, Waker},
        thread,
        time::Duration,
    };

    #[test]
    fn a_waker_works_from_another_thread_and_after_its_task() {
        run_local(async || {
            let woken = Rc::new(Cell::new(0));
            let (w, (tx, rx)) = (woken.clone(), std::sync::mpsc::channel::<Waker>());
            let t = spawn_here("waits", async move {
                poll_fn(|cx| {
                    w.set(w.get() + 1);
                    if w.get() == 3 {
                        return Poll::Ready(());
                    }
                    tx.send(cx.waker().clone()).unwrap();
                    Poll::Pending
                })
                .await;
            });
            let other = thread::spawn(move || {
                let mut wakers = vec![];
                while let Ok(w) = rx.recv() {
                    thread::park_timeout(Duration::from_millis(20)); // the shard sleeps by now
                    w.wake_by_ref();
                    wakers.push(w);
                }
                wakers
            });
            t.await;
            assert_eq!(woken.get(), 3);
            let wakers = other.join().unwrap();
            wakers.iter().for_each(Waker::wake_by_ref);
            thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
            time::sleep(Duration::from_millis(5)).await;
        });
    }

    #[test]
    fn the_count_is_exact() {
        run_local(async || {
            assert_eq!(super::count(), 0);
            let t = spawn_here("a", async {
                // woken during its last poll
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::Ready(())
                })
                .await
            });
            let u = spawn_here("b", std::future::pending::<()>());
            assert_eq!(super::count(), 2);
            yield_now().await;
            assert_eq!(super::count(), 0);
            assert!(t.is_finished());
            u.cancel().await;
            assert_eq!(super::count(), 0);
        });
    }

    #[test]
    fn more_wakers_of_one_task_than_sixteen_bits() {
        run_local(async || {
            let wakers = poll_fn(|cx| Poll::Ready((0..100_000).map(|_| cx.waker().clone()).collect::<Vec<_>>())).await;
            wakers.into_iter().for_each(Waker::wake);
            yield_now().await;
        });
    }
}
