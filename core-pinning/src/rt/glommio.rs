//! The seam over glommio 0.9.

use crate::shard::lane;
use crate::task::Queue;
use ::glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, executor};
use std::{
    cell::Cell,
    future::Future,
    io,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

/// Practically never. glommio 0.9 parks with runnable tasks if this timer fires between the arming and the first look
/// at it, which a stall of the thread of that length brings about; with the default of 100 ms a paused virtual machine
/// is enough. We have no use for the timer: [`preempt_soon`] divides the core, and the pump never lets glommio park.
const PREEMPT: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy)]
struct Queues {
    tasks: [TaskQueueHandle; Queue::ALL.len()],
    pump: TaskQueueHandle,
}

thread_local! {
    static QUEUES: Cell<Option<Queues>> = const { Cell::new(None) };
}

/// An executor bound to the thread that makes it. The thread is pinned by the caller, before.
pub(crate) struct Executor(LocalExecutor);

impl Executor {
    pub fn new(name: &str) -> io::Result<Executor> {
        // no I/O goes through glommio: the least registered memory it takes, and small rings
        let builder = LocalExecutorBuilder::new(Placement::Unbound).name(name).io_memory(64 << 10).ring_depth(32);
        builder.preempt_timer(PREEMPT).make().map(Executor).map_err(|e| {
            io::Error::other(format!(
                "cannot set up the executor ({e}); it needs io_uring and at least 512 KiB of locked memory: \
                 raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)"
            ))
        })
    }

    /// Runs the executor until `main` completes. Tasks left over are not polled again. `None` if the machine was lost
    /// first, as simulated ones are.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> Option<T> {
        let result = self.0.run(main);
        QUEUES.set(None);
        Some(result)
    }
}

/// Makes the task queues; inside [`Executor::run`], before the first [`spawn`].
pub(crate) fn create_queues() {
    let ex = executor();
    let queue = |shares, name| ex.create_task_queue(Shares::Static(shares), Latency::NotImportant, name);
    QUEUES.set(Some(Queues { tasks: Queue::ALL.map(|q| queue(q.shares(), q.name())), pump: queue(1000, "pump") }));
}

/// Schedules a task. It is never polled inside the call, and runs on when nobody holds it.
pub(crate) fn spawn(queue: Queue, fut: impl Future<Output = ()> + 'static) {
    spawn_into(queues().tasks[queue as usize], fut);
}

/// Schedules the pump, in a queue of its own. It blocks the thread in its polls, and glommio counts that as its run
/// time; so it must never yield but wait to be woken: a queue that was empty starts level with the others again.
pub(crate) fn spawn_pump(fut: impl Future<Output = ()> + 'static) {
    spawn_into(queues().pump, fut);
}

fn queues() -> Queues {
    QUEUES.get().expect("spawn outside a shard")
}

fn spawn_into(queue: TaskQueueHandle, fut: impl Future<Output = ()> + 'static) {
    let task = executor().spawn_local_into(fut, queue).expect("the task queues live as long as the shard");
    drop(task.detach());
}

/// Lets the queue with the least run time go next.
pub(crate) async fn yield_queue() {
    executor().yield_task_queue_now().await
}

/// Lets all tasks go first that are ready, but for those that wait here, too: they take turns. `behind`: behind all others that wait.
pub(crate) async fn yield_turn(behind: bool) {
    let lane = lane::current();
    if lane.queue() != Queue::Serve || lane.reactor.has_ended() {
        return yield_queue().await;
    }
    lane.reactor.take_turns(behind).await
}

/// Some task waits for its turn.
pub(crate) fn someone_waits_for_a_turn() -> bool {
    lane::current().reactor.someone_waits_for_a_turn()
}

/// Ends the turn of the running queue after the present task. (glommio marks the queue when its yield is first
/// polled, so polling that once is enough.)
pub(crate) fn preempt_soon() {
    let ex = executor();
    let yielding = pin!(ex.yield_task_queue_now());
    let _ = yielding.poll(&mut Context::from_waker(Waker::noop()));
}

/// The running task shall yield where it can. Here the time that it has had says so.
pub(crate) fn wants_yield() -> bool {
    false
}
