//! The seam over glommio 0.9.
#![allow(unsafe_code)]

use crate::task::Queue;
use ::glommio::{
    Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, executor, io::BufferedFile,
};
use std::{
    cell::Cell,
    future::Future,
    io,
    os::fd::{BorrowedFd, FromRawFd, IntoRawFd},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Practically never. glommio 0.9 parks with runnable tasks if this timer fires between the arming and the first look
/// at it, which a stall of the thread of that length brings about; with the default of 100 ms a paused virtual machine
/// is enough. We have no use for the timer: the pump looks at everything in each of its turns, and [`preempt_soon`]
/// divides the core.
const PREEMPT: Duration = Duration::from_secs(3600);

thread_local! {
    static QUEUES: Cell<Option<[TaskQueueHandle; Queue::ALL.len()]>> = const { Cell::new(None) };
}

/// An executor bound to the thread that makes it. The thread is pinned by the caller, before.
pub(crate) struct Executor(LocalExecutor);

impl Executor {
    pub fn new(name: &str) -> io::Result<Executor> {
        // no file of glommio's is used but an eventfd: the least registered memory it takes, and small rings
        let builder = LocalExecutorBuilder::new(Placement::Unbound).name(name).io_memory(64 << 10).ring_depth(32);
        builder.preempt_timer(PREEMPT).make().map(Executor).map_err(|e| {
            io::Error::other(format!(
                "cannot set up the executor ({e}); it needs io_uring and at least 512 KiB of locked memory: \
                 raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)"
            ))
        })
    }

    /// Runs the executor until `main` completes. Tasks left over are not polled again.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let result = self.0.run(main);
        QUEUES.set(None);
        result
    }
}

/// Makes the task queues; inside [`Executor::run`], before the first [`spawn`].
pub(crate) fn create_queues() {
    let ex = executor();
    QUEUES.set(Some(
        Queue::ALL.map(|q| ex.create_task_queue(Shares::Static(q.shares()), Latency::NotImportant, q.name())),
    ));
}

/// Schedules a task. It is never polled inside the call, and runs on when nobody holds it.
pub(crate) fn spawn(queue: Queue, fut: impl Future<Output = ()> + 'static) {
    let queues = QUEUES.get().expect("spawn outside a shard");
    let task =
        executor().spawn_local_into(fut, queues[queue as usize]).expect("the task queues live as long as the shard");
    drop(task.detach());
}

/// Lets the queue with the least run time go next.
pub(crate) async fn yield_queue() {
    executor().yield_task_queue_now().await
}

/// Ends the turn of the running queue after the present task. (glommio marks the queue when its yield is first
/// polled, so polling that once is enough.)
pub(crate) fn preempt_soon() {
    let ex = executor();
    let yielding = pin!(ex.yield_task_queue_now());
    let _ = yielding.poll(&mut Context::from_waker(Waker::noop()));
}

/// An eventfd, read through glommio's ring while the shard sleeps.
pub(crate) struct WakeFd {
    file: Rc<BufferedFile>,
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl WakeFd {
    /// Reads a duplicate of `fd`, which must not be O_NONBLOCK.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<WakeFd> {
        let fd = fd.try_clone_to_owned()?.into_raw_fd();
        // SAFETY: a fresh descriptor, owned by the file from here on.
        let file = Rc::new(unsafe { BufferedFile::from_raw_fd(fd) });
        Ok(WakeFd { file, read: None })
    }

    /// Ready once something was written to the eventfd since the last time. The read stays armed between calls.
    pub fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let read = self.read.get_or_insert_with(|| {
            let file = self.file.clone();
            Box::pin(async move {
                let _ = file.read_at(0, 8).await;
            })
        });
        let woken = read.as_mut().poll(cx);
        if woken.is_ready() {
            self.read = None;
        }
        woken
    }

    pub fn is_armed(&self) -> bool {
        self.read.is_some()
    }

    /// Closes the duplicate; a mere drop would leave that to an executor that is about to end.
    pub async fn close(self) {
        let WakeFd { file, read } = self;
        drop(read);
        if let Ok(file) = Rc::try_unwrap(file) {
            let _ = file.close().await;
        }
    }
}
