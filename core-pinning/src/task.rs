//! Tasks of one shard: spawned into a queue with a share of the core, named, cancellable.

use crate::{
    clock,
    ready::Counted,
    rt,
    shard::lane::{self, Lane},
};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A task that has run longer than this yields in [`yield_if_needed`].
const LONG_RUN_US: u64 = 500;

/// Scheduling class. While several have work, the core is divided by their shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Produce, fetch, connections, and the shard's pump.
    Serve,
    /// Replication and consensus.
    Replicate,
    /// Write-back, compaction, retention, recovery.
    Background,
    /// Everything an operator asks for.
    Admin,
}

impl Queue {
    pub const ALL: [Queue; 4] = [Queue::Serve, Queue::Replicate, Queue::Background, Queue::Admin];

    pub const fn shares(self) -> usize {
        match self {
            Queue::Serve => 1000,
            Queue::Replicate => 500,
            Queue::Background => 100,
            Queue::Admin => 200,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Queue::Serve => "serve",
            Queue::Replicate => "replicate",
            Queue::Background => "background",
            Queue::Admin => "admin",
        }
    }
}

/// What a task and its handle share.
struct Shared<T> {
    /// Number of `name` at the stall detector.
    name: u16,
    queue: Queue,
    /// Place in the lane's list of tasks.
    slot: Cell<u32>,
    cancelled: Cell<bool>,
    finished: Cell<bool>,
    /// Wakes the task; set before it is first polled.
    waker: RefCell<Option<Waker>>,
    output: RefCell<Option<T>>,
    joiner: RefCell<Option<Waker>>,
}

/// A task as its lane sees it.
pub(crate) trait Cancel {
    fn cancel(&self);
}

impl<T> Cancel for Shared<T> {
    fn cancel(&self) {
        self.cancelled.set(true);
        let waker = self.waker.borrow().clone();
        if let Some(w) = waker {
            w.wake();
        }
    }
}

impl<T> Shared<T> {
    fn finish(&self, lane: &Lane, output: Option<T>) {
        *self.output.borrow_mut() = output;
        self.finished.set(true);
        let waker = self.waker.borrow_mut().take();
        let joiner = self.joiner.borrow_mut().take();
        if let Some(w) = joiner {
            w.wake();
        }
        lane.deregister(self.slot.get());
        drop(waker);
    }
}

/// Handle of a spawned task; awaiting it gives the task's output. Dropping it lets the task go on by itself.
///
/// If the task panics the whole shard ends (see [`crate::shard::ShardPool::join`]), and the handle never completes.
pub struct Task<T>(Rc<Shared<T>>);

impl<T> Task<T> {
    /// Lets the task go on by itself.
    pub fn detach(self) {}

    /// Drops the task's future at its next turn and waits for that. The output, if it had completed before.
    pub async fn cancel(self) -> Option<T> {
        if !self.0.finished.get() {
            self.0.cancel();
        }
        std::future::poll_fn(|cx| if self.0.finished.get() { Poll::Ready(()) } else { self.0.join(cx) }).await;
        self.0.output.borrow_mut().take()
    }

    /// True once the task has completed or was cancelled.
    pub fn is_finished(&self) -> bool {
        self.0.finished.get()
    }
}

impl<T> Shared<T> {
    fn join(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut joiner = self.joiner.borrow_mut();
        if !joiner.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *joiner = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Future for Task<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let output = self.0.output.borrow_mut().take();
        match output {
            Some(v) => Poll::Ready(v),
            None => self.0.join(cx).map(|()| unreachable!("join only registers")),
        }
    }
}

pin_project_lite::pin_project! {
    /// The future as the executor polls it: named for the stall detector, its panics caught.
    struct Run<F: Future> {
        #[pin]
        fut: Option<F>,
        shared: Rc<Shared<F::Output>>,
        lane: Rc<Lane>,
    }
}

impl<F: Future> Future for Run<F> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let (shared, lane) = (&**this.shared, &**this.lane);
        lane.enter(shared.name, shared.queue);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = match this.fut.as_mut().as_pin_mut() {
                Some(fut) if !shared.cancelled.get() => fut.poll(cx).map(Some),
                _ => Poll::Ready(None),
            };
            if polled.is_ready() {
                this.fut.set(None);
            }
            polled
        }));
        lane.leave();
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => shared.finish(lane, output),
            Err(panic) => {
                lane.fail(shared.name, panic);
                shared.finish(lane, None);
            }
        }
        Poll::Ready(())
    }
}

/// Schedules `fut` on this shard; it is never polled inside the call. `name` is for people: the stall detector's
/// reports and panics.
///
/// Panics outside a shard.
pub fn spawn<F>(queue: Queue, name: &'static str, fut: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let lane = lane::current();
    let shared = Rc::new(Shared {
        name: lane.name_number(name),
        queue,
        slot: Cell::new(0),
        cancelled: Cell::new(false),
        finished: Cell::new(false),
        waker: RefCell::new(None),
        output: RefCell::new(None),
        joiner: RefCell::new(None),
    });
    shared.slot.set(lane.register(shared.clone()));
    let remote = lane.reactor.remote.clone();
    let run = Counted::new(Run { fut: Some(fut), shared: shared.clone(), lane }, remote);
    *shared.waker.borrow_mut() = Some(run.waker());
    rt::spawn(queue, run);
    Task(shared)
}

/// [`spawn`] into the queue of the calling task.
pub fn spawn_here<F>(name: &'static str, fut: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn(current_queue(), name, fut)
}

/// The queue of the task that calls.
pub fn current_queue() -> Queue {
    lane::current().queue()
}

/// Lets the other tasks that are ready run first.
pub async fn yield_now() {
    rt::yield_queue().await
}

/// Yields if the calling task has run for more than half a millisecond; costs about 10 ns otherwise. In the queue `Serve` those
/// that do take turns, between which all others run that are ready: however many clients ask for much, those that ask for little wait
/// for one of them at most.
pub async fn yield_if_needed() {
    if is_long_running() {
        rt::yield_turn(false).await
    }
}

/// What [`yield_if_needed`] waits for, to be kept where the task has other things to do meanwhile: a wait that is dropped is begun
/// anew, behind all the others.
pub type Turn = Pin<Box<dyn Future<Output = ()>>>;

/// A turn to wait for, as those do that have run for long; `behind` all others that wait.
pub fn turn(behind: bool) -> Turn {
    Box::pin(rt::yield_turn(behind))
}

/// Some task has run for long, or was told to wait like those, and its turn has not come.
pub fn someone_waits_for_a_turn() -> bool {
    rt::someone_waits_for_a_turn()
}

/// Yields if the calling task has run for more than `us` microseconds: for work that others must not notice.
pub async fn yield_after(us: u64) {
    if has_run_for_us(us) {
        rt::yield_queue().await
    }
}

/// True if the calling task has run for so long that it should yield, which [`yield_if_needed`] does. For work that is done
/// at once while it is short and left to a task of its own otherwise.
pub fn is_long_running() -> bool {
    has_run_for_us(LONG_RUN_US)
}

/// When the calling task was polled, in ticks: the same until it waits for something.
pub fn polled_at() -> u64 {
    lane::current().polled_at()
}

/// How long the calling task has run since it was polled.
pub fn ran_for() -> Duration {
    Duration::from_nanos(lane::current().running_ticks() * 1000 / clock::ticks_per_us())
}

/// True if tasks have run for more than so many microseconds, this one and those before it, since the shard last looked at its ring.
pub fn all_have_run_for_us(us: u64) -> bool {
    lane::current().reactor.since_turn() > us * clock::ticks_per_us() || rt::wants_yield()
}

/// True if the calling task has run for more than so many microseconds since it was polled.
pub fn has_run_for_us(us: u64) -> bool {
    lane::current().running_ticks() > us * clock::ticks_per_us() || rt::wants_yield()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, time};

    #[test]
    fn spawn_only_schedules_and_a_dropped_handle_detaches() {
        run_local(async || {
            let ran = Rc::new(Cell::new(false));
            let r = ran.clone();
            spawn(Queue::Background, "t", async move { r.set(true) }).detach();
            assert!(!ran.get(), "polled inside spawn");
            while !ran.get() {
                yield_now().await;
            }
            assert_eq!(spawn_here("u", async { 7 }).await, 7);
        });
    }

    #[test]
    fn cancel_drops_the_future_and_waits_for_that() {
        struct Flag(Rc<Cell<bool>>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        run_local(async || {
            let dropped = Rc::new(Cell::new(false));
            let flag = Flag(dropped.clone());
            let t = spawn(Queue::Replicate, "waits", async move {
                let _flag = flag;
                std::future::pending::<()>().await
            });
            yield_now().await;
            assert_eq!(t.cancel().await, None);
            assert!(dropped.get());
            let t = spawn_here("done", async { 3 });
            while !t.is_finished() {
                yield_now().await;
            }
            assert_eq!(t.cancel().await, Some(3));
        });
    }

    #[test]
    #[cfg(not(sim))]
    fn many_tasks_that_run_for_long_go_one_at_a_time() {
        run_local(async || {
            let (stop, slices) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
            let long: Vec<_> = (0..100)
                .map(|_| {
                    let (stop, slices) = (stop.clone(), slices.clone());
                    spawn(Queue::Serve, "long", async move {
                        let mut mine = 0;
                        while !stop.get() {
                            while !is_long_running() {
                                std::hint::spin_loop();
                            }
                            (mine, _) = (mine + 1, slices.set(slices.get() + 1));
                            yield_if_needed().await;
                        }
                        mine
                    })
                })
                .collect();
            let short = spawn(Queue::Serve, "short", async move {
                let mut most = 0;
                // At first nobody has run for long.
                while slices.get() < 200 {
                    time::sleep(Duration::from_micros(100)).await;
                }
                for _ in 0..100 {
                    let before = slices.get();
                    time::sleep(Duration::from_micros(100)).await;
                    most = most.max(slices.get() - before);
                }
                most
            });
            // Each of them takes half a millisecond at least: those that were ready, and the one before.
            let most = short.await;
            assert!(most <= 4, "{most} others ran for long while it waited for its turn");
            stop.set(true);
            for task in long {
                assert!(task.await > 0, "its turn comes");
            }
        });
    }

    #[test]
    fn a_spinning_background_task_leaves_room_for_the_others() {
        run_local(async || {
            let stop = Rc::new(Cell::new(false));
            // Of 20 us: a loaded machine takes the core away.
            let turns = Rc::new(Cell::new(0u64));
            let (s, counted) = (stop.clone(), turns.clone());
            let spinner = spawn(Queue::Background, "spinner", async move {
                while !s.get() {
                    let t = time::now();
                    while t.elapsed() < Duration::from_micros(20) {}
                    counted.set(counted.get() + 1);
                    yield_if_needed().await;
                    if counted.get().is_multiple_of(100) {
                        yield_now().await;
                    }
                }
            });
            let ticker = spawn(Queue::Serve, "ticker", async move {
                for _ in 0..20 {
                    time::sleep(Duration::from_millis(1)).await;
                }
            });
            ticker.await;
            assert!((10..4500).contains(&turns.get()), "timers ran late: after {} turns", turns.get());
            stop.set(true);
            spinner.await;
        });
    }
}
