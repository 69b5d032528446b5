//! openraft's tasks of all groups of a shard, run as one task of it, a slice at a time.
//!
//! With a thousand groups at work their tasks are ready by the thousand. As tasks of the shard each they would make one round
//! of its queue take milliseconds, and every step of a request, from its bytes to its answer, would wait for a round. In slices
//! what comes in goes first: proposals that arrive meanwhile wait in their groups, and one step of openraft takes them all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use core_pinning::task::{Queue, has_run_for_us, spawn};
use futures::task::AtomicWaker;

/// How long the members have the core at a time.
const SLICE_US: u64 = 200;

type Member = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// Of the shard: a shard is a thread.
    static CREW: Rc<Crew> = Rc::default();
}

/// Schedules `member` on the calling shard; it is never polled inside the call.
pub(super) fn add(member: Member) {
    CREW.with(Rc::clone).add(member);
}

/// What wakers know of a crew. They may be called on any thread, though hardly ever are.
#[derive(Default)]
struct Ready {
    queue: Mutex<ReadyQueue>,
    /// The crew's own task.
    task: AtomicWaker,
}

#[derive(Default)]
struct ReadyQueue {
    /// Places of members to be polled, in the order in which they were woken.
    places: VecDeque<usize>,
    /// The crew is being polled: it sees for itself who becomes ready.
    polling: bool,
}

impl Ready {
    fn queue(&self) -> MutexGuard<'_, ReadyQueue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, at: usize) {
        let mut queue = self.queue();
        queue.places.push_back(at);
        let first = queue.places.len() == 1 && !queue.polling;
        drop(queue);
        if first {
            self.task.wake();
        }
    }

    /// The next one, for a crew that is polled. None: it is not any more.
    fn pop(&self) -> Option<usize> {
        let mut queue = self.queue();
        let next = queue.places.pop_front();
        queue.polling = next.is_some();
        next
    }

    /// Ends the polling early. True if somebody is ready.
    fn leave(&self) -> bool {
        let mut queue = self.queue();
        queue.polling = false;
        !queue.places.is_empty()
    }
}

struct MemberWaker {
    ready: Arc<Ready>,
    at: usize,
    scheduled: AtomicBool,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release, and Acquire where it is taken back: the member sees what was done before it was woken.
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            self.ready.push(self.at);
        }
    }
}

/// A place for a member. Its waker is made once, and may outlive the members that it was made for.
struct Place {
    cell: Arc<MemberWaker>,
    waker: Waker,
    /// `None` while it is polled, and when the place is free.
    member: Option<Member>,
}

#[derive(Default)]
struct Crew {
    ready: Arc<Ready>,
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<usize>>,
    /// There is a task of the shard that polls them.
    running: Cell<bool>,
}

impl Crew {
    fn add(self: Rc<Self>, member: Member) {
        let free = self.free.borrow_mut().pop();
        let mut places = self.places.borrow_mut();
        let at = free.unwrap_or_else(|| {
            let at = places.len();
            let cell = Arc::new(MemberWaker { ready: self.ready.clone(), at, scheduled: AtomicBool::new(false) });
            places.push(Place { waker: cell.clone().into(), cell, member: None });
            at
        });
        let Some(place) = places.get_mut(at) else { unreachable!("free places are kept") };
        place.member = Some(member);
        let waker = place.waker.clone();
        drop(places);
        waker.wake();
        if !self.running.replace(true) {
            spawn(Queue::Serve, "raft", Run(self)).detach();
        }
    }

    fn poll_member(&self, at: usize) {
        let taken = self.places.borrow_mut().get_mut(at).and_then(|place| {
            place.cell.scheduled.swap(false, Ordering::AcqRel);
            Some((place.member.take()?, place.waker.clone()))
        });
        let Some((mut member, waker)) = taken else { return };
        // Nothing is borrowed: the member may add others.
        if member.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(member);
            self.free.borrow_mut().push(at);
        } else if let Some(place) = self.places.borrow_mut().get_mut(at) {
            place.member = Some(member);
        }
    }

    fn is_empty(&self) -> bool {
        self.free.borrow().len() == self.places.borrow().len()
    }
}

/// The crew as a task of the shard; ends when no member is left.
struct Run(Rc<Crew>);

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let crew = &self.0;
        crew.ready.task.register(cx.waker());
        while let Some(at) = crew.ready.pop() {
            crew.poll_member(at);
            if has_run_for_us(SLICE_US) {
                if crew.ready.leave() {
                    cx.waker().wake_by_ref();
                }
                break;
            }
        }
        if crew.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Run {
    /// All members have ended, or the shard ends before them.
    fn drop(&mut self) {
        let crew = &self.0;
        *crew.ready.queue() = ReadyQueue::default();
        let places = crew.places.take();
        crew.free.take();
        crew.running.set(false);
        drop(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::scope::Scope;
    use crate::runtime::{LocalMpsc, ShardRuntime};
    use openraft_rt::{AsyncRuntime, Mpsc, MpscReceiver, MpscSender};
    use std::thread;

    /// Runs `test` as a task of an instance.
    fn in_crew<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
        ShardRuntime::run(async move {
            let scope = Scope::new(|_| ());
            let outcome = scope.run(test).await.expect("no panic");
            scope.ended().await;
            outcome
        })
    }

    #[test]
    fn many_tasks_all_run() {
        let sum = in_crew(async {
            let (tx, mut rx) = LocalMpsc::channel(1);
            for n in 0..1000u64 {
                let tx = tx.clone();
                drop(ShardRuntime::spawn(async move { tx.send(n).await.expect("received") }));
            }
            drop(tx);
            let mut sum = 0;
            while let Some(n) = rx.recv().await {
                sum += n;
            }
            sum
        });
        let n = 1000u64;
        assert_eq!(sum, n * (n - 1) / 2);
    }

    #[test]
    fn places_are_used_again_and_a_late_waker_does_no_harm() {
        in_crew(async {
            let mut late = Vec::new();
            for n in 0..1000 {
                let mut polled = false;
                let task = ShardRuntime::spawn(std::future::poll_fn(move |cx| {
                    if std::mem::replace(&mut polled, true) {
                        return Poll::Ready((n, cx.waker().clone()));
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }));
                let (got, waker) = task.await.expect("no panic");
                assert_eq!(got, n);
                late.push(waker);
                late.iter().for_each(Waker::wake_by_ref);
            }
        });
    }

    #[test]
    fn a_waker_works_from_another_thread() {
        in_crew(async {
            let (tx, rx) = std::sync::mpsc::channel::<Waker>();
            let other = thread::spawn(move || rx.recv().expect("sent").wake());
            let mut sent = false;
            let waits = ShardRuntime::spawn(std::future::poll_fn(move |cx| {
                if std::mem::replace(&mut sent, true) {
                    return Poll::Ready(());
                }
                tx.send(cx.waker().clone()).expect("waited for");
                Poll::Pending
            }));
            waits.await.expect("no panic");
            other.join().expect("no panic");
        });
    }

    #[test]
    fn a_task_that_is_always_ready_leaves_room_for_others() {
        in_crew(async {
            let stop = Rc::new(Cell::new(false));
            let seen = stop.clone();
            let spins = ShardRuntime::spawn(std::future::poll_fn(move |cx| {
                cx.waker().wake_by_ref();
                if seen.get() { Poll::Ready(()) } else { Poll::Pending }
            }));
            // A task of its own, outside the instance.
            core_pinning::task::spawn_here("other", async move { stop.set(true) }).await;
            spins.await.expect("no panic");
        });
    }
}
