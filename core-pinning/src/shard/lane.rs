//! What a shard's thread knows of itself.

use super::{ShardId, ShardPanic};
use crate::{
    clock,
    reactor::Reactor,
    rt,
    slab::Slab,
    stall::Published,
    sync::{Event, Signal},
    task::{Cancel, Queue},
};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

/// When the pump has not turned for this long the running queue gives way to it after the present task.
const OVERDUE_US: u64 = 200;

thread_local! {
    static LANE: RefCell<Option<Rc<Lane>>> = const { RefCell::new(None) };
    /// Where the panic being unwound on this thread happened; kept by the hook of `pool`.
    pub(super) static PANIC_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

pub(crate) struct Lane {
    pub shard: ShardId,
    pub reactor: Rc<Reactor>,
    pub published: Arc<Published>,
    queue: Cell<Queue>,
    /// Cycle counter when the running task was polled.
    entered: Cell<u64>,
    overdue: u64,
    tasks: RefCell<Slab<Rc<dyn Cancel>>>,
    fewer_tasks: Event,
    names: RefCell<HashMap<(usize, usize), u16>>,
    failure: RefCell<Option<ShardPanic>>,
    /// Told at a panic, and when the pool wants this shard to end.
    pub stop: Signal,
}

/// The lane of this thread. Panics outside a shard.
pub(crate) fn current() -> Rc<Lane> {
    try_current().expect("called outside a shard")
}

/// The lane of this thread, if it is a shard's.
pub(crate) fn try_current() -> Option<Rc<Lane>> {
    LANE.try_with(|l| l.borrow().clone()).ok().flatten()
}

/// Runs `f` with the reactor of this thread; `None` outside a shard.
pub(crate) fn with_reactor<T>(f: impl FnOnce(&Rc<Reactor>) -> T) -> Option<T> {
    LANE.try_with(|l| l.borrow().as_ref().map(|l| f(&l.reactor))).ok().flatten()
}

pub(super) fn install(lane: Option<Rc<Lane>>) {
    let old = LANE.with(|l| l.replace(lane));
    drop(old);
}

impl Lane {
    pub fn new(shard: ShardId, reactor: Rc<Reactor>, published: Arc<Published>) -> Lane {
        Lane {
            shard,
            reactor,
            published,
            queue: Cell::new(Queue::Serve),
            entered: Cell::new(clock::ticks()),
            overdue: OVERDUE_US * clock::ticks_per_us(),
            tasks: RefCell::default(),
            fewer_tasks: Event::new(),
            names: RefCell::default(),
            failure: RefCell::new(None),
            stop: Signal::new(),
        }
    }

    /// Before every poll of a task.
    #[inline]
    pub fn enter(&self, name: u16, queue: Queue) {
        let now = clock::ticks();
        self.entered.set(now);
        self.queue.set(queue);
        self.published.enter(name, now);
        if self.reactor.before_poll(now, self.overdue) {
            rt::preempt_soon();
        }
    }

    /// After every poll of a task.
    #[inline]
    pub fn leave(&self) {
        self.published.leave();
    }

    pub fn queue(&self) -> Queue {
        self.queue.get()
    }

    pub fn polled_at(&self) -> u64 {
        self.entered.get()
    }

    /// How long the running task has had the core.
    #[inline]
    pub fn running_ticks(&self) -> u64 {
        clock::ticks().wrapping_sub(self.entered.get())
    }

    pub fn name_number(&self, name: &'static str) -> u16 {
        let key = (name.as_ptr() as usize, name.len());
        *self.names.borrow_mut().entry(key).or_insert_with(|| crate::stall::name_number(name))
    }

    pub fn register(&self, task: Rc<dyn Cancel>) -> u32 {
        self.tasks.borrow_mut().insert(task)
    }

    pub fn deregister(&self, slot: u32) {
        let gone = self.tasks.borrow_mut().remove(slot);
        drop(gone);
        self.fewer_tasks.notify_all();
    }

    /// Tasks that have not completed.
    pub fn live_tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Cancels every task and waits until all their futures are dropped, those included that the drops spawn.
    pub async fn cancel_all(&self) {
        while self.live_tasks() > 0 {
            let gone = self.fewer_tasks.listen();
            let tasks: Vec<_> = self.tasks.borrow().iter().map(|(_, t)| t.clone()).collect();
            tasks.iter().for_each(|t| t.cancel());
            drop(tasks);
            gone.await;
        }
    }

    /// A task panicked: remember the first and end the shard.
    pub fn fail(&self, name: u16, panic: Box<dyn Any + Send>) {
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(s), _) => s.to_string(),
            (_, Some(s)) => s.clone(),
            _ => "a panic without a message".into(),
        };
        let failure = ShardPanic {
            shard: self.shard,
            task: crate::stall::name(name),
            message,
            location: PANIC_AT.with(|p| p.borrow_mut().take()),
        };
        tracing::error!(shard = %failure.shard, task = failure.task, location = failure.location.as_deref(), "{}", failure.message);
        super::pool::call_panic_hook(&failure);
        self.failure.borrow_mut().get_or_insert(failure);
        self.stop.notify();
    }

    pub fn take_failure(&self) -> Option<ShardPanic> {
        self.failure.borrow_mut().take()
    }
}
