//! The executor of a simulation: which queue goes next is the seed's decision, by the queues' shares; tasks of one queue go
//! in the order in which they were woken.

use crate::{
    shard::lane,
    sim::world::{self, World},
    slab::Slab,
    task::Queue,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

/// A poll takes up to this long by the machine's clock.
const POLL_NS: u64 = 5_000;

type Run = Pin<Box<dyn Future<Output = ()>>>;

struct Ready {
    queue: Queue,
    waker: Waker,
    /// In a list of `ready`; what is there of a task that has gone does not count for the next one in its place.
    scheduled: bool,
    /// Taken out while it is polled.
    run: Option<Run>,
}

impl Ready {
    fn take(&mut self) -> Option<(Run, Waker)> {
        let run = if std::mem::take(&mut self.scheduled) { self.run.take() } else { None };
        run.map(|run| (run, self.waker.clone()))
    }
}

#[derive(Default)]
struct State {
    tasks: Slab<Ready>,
    /// Numbers of tasks; `None` is the main future, which counts as `Serve`.
    ready: [VecDeque<Option<u32>>; Queue::ALL.len()],
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

struct Woken {
    task: Option<u32>,
    queue: Queue,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if RUNNING.get() {
            STATE.with_borrow_mut(|s| {
                if let Some(t) = self.task.and_then(|i| s.tasks.get_mut(i)) {
                    t.scheduled = true;
                }
                s.ready[self.queue as usize].push_back(self.task);
            });
        }
    }
}

impl State {
    /// Takes the next task, by the seed.
    fn pick(&mut self, world: &World) -> Option<Option<u32>> {
        let share = |q: &Queue, s: &State| if s.ready[*q as usize].is_empty() { 0 } else { q.shares() as u64 };
        let all: u64 = Queue::ALL.iter().map(|q| share(q, self)).sum();
        if all == 0 {
            return None;
        }
        let mut at = world.schedule().below(all);
        for q in Queue::ALL {
            let share = share(&q, self);
            if at < share {
                return self.ready[q as usize].pop_front();
            }
            at -= share;
        }
        None
    }
}

pub(crate) struct Executor(Arc<World>);

impl Executor {
    pub fn new(_name: &str) -> io::Result<Executor> {
        Ok(Executor(world::current_or_new()))
    }

    /// Runs the executor until `main` completes; tasks left over are dropped. `None` if the machine was lost first.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> Option<T> {
        let world = &self.0;
        STATE.set(State::default());
        RUNNING.set(true);
        world.turns.wait(world);
        let result = {
            let mut main = pin!(main);
            let waker: Waker = Arc::new(Woken { task: None, queue: Queue::Serve }).into();
            waker.wake_by_ref();
            loop {
                let next = STATE.with_borrow_mut(|s| s.pick(world));
                if let Some(task) = next {
                    world.note(task.map_or(u64::MAX, u64::from));
                    match task {
                        None => {
                            if let Poll::Ready(v) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                                break Some(v);
                            }
                        }
                        Some(i) => poll_task(i),
                    }
                    let cost = world.schedule().below(POLL_NS);
                    world.advance(cost);
                }
                if world.is_lost() {
                    break None;
                }
                let did = lane::with_reactor(|r| r.turn()).unwrap_or(false);
                if world.is_lost() {
                    break None;
                }
                world.turns.pass_on(world, next.is_none() && !did);
            }
        };
        if result.is_none() {
            lane::with_reactor(|r| r.lose());
        }
        drop_tasks();
        RUNNING.set(false);
        STATE.set(State::default());
        lane::with_reactor(|r| r.forget());
        world.turns.leave();
        result
    }
}

fn poll_task(i: u32) {
    let taken = STATE.with_borrow_mut(|s| s.tasks.get_mut(i).and_then(Ready::take));
    let Some((mut run, waker)) = taken else { return };
    let polled = run.as_mut().poll(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        drop(run);
        STATE.with_borrow_mut(|s| drop(s.tasks.remove(i)));
    } else {
        STATE.with_borrow_mut(|s| {
            if let Some(t) = s.tasks.get_mut(i) {
                t.run = Some(run);
            }
        });
    }
}

/// Drops every task, those included that the drops spawn.
fn drop_tasks() {
    loop {
        let next = STATE.with_borrow_mut(|s| {
            let first = s.tasks.iter().next().map(|(i, _)| i);
            first.and_then(|i| s.tasks.remove(i))
        });
        match next {
            Some(task) => drop(task),
            None => return,
        }
    }
}

/// The queues need no making.
pub(crate) fn create_queues() {}

/// Schedules a task. It is never polled inside the call, and runs on when nobody holds it.
pub(crate) fn spawn(queue: Queue, fut: impl Future<Output = ()> + 'static) {
    assert!(RUNNING.get(), "spawn outside a shard");
    STATE.with_borrow_mut(|s| {
        let run = Some(Box::pin(fut) as Run);
        let i = s.tasks.insert(Ready { queue, waker: Waker::noop().clone(), scheduled: true, run });
        if let Some(t) = s.tasks.get_mut(i) {
            t.waker = Arc::new(Woken { task: Some(i), queue: t.queue }).into();
        }
        s.ready[queue as usize].push_back(Some(i));
    });
}

/// Lets others go first, if the seed wants that.
pub(crate) async fn yield_queue() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The seed chooses who goes next anyway.
pub(crate) async fn yield_turn(_behind: bool) {
    yield_queue().await
}

/// Whose turn it is, the seed decides.
pub(crate) fn someone_waits_for_a_turn() -> bool {
    false
}

/// Every poll is followed by a choice of the seed.
pub(crate) fn preempt_soon() {}

/// The running task shall yield where it can: now and then.
pub(crate) fn wants_yield() -> bool {
    world::with(|w| w.schedule().one_in(8)).unwrap_or(false)
}
