//! The runtime openraft runs on: one shard.
//!
//! openraft asks for an [`AsyncRuntime`]; this is that trait over `core_pinning`. Everything here is `!Send` and
//! belongs to the shard that made it; there is no atomic and no lock. No channel reserves memory for its capacity
//! (openraft makes four channels of hundreds of slots per group).
//!
//! Three things differ from a runtime such as tokio, and openraft depends on each of them:
//! - [`spawn`](AsyncRuntime::spawn) only schedules. openraft spawns while it holds a `std::sync::Mutex`, so a
//!   runtime that polls the new task at once would dead-lock or panic.
//! - A panic in a task ends that task only, and fences the group the task belongs to ([`scope`]).
//! - Tasks are counted per openraft instance, so that dropping an instance can wait until none is left.
//!
//! All these tasks of a shard are one task of it ([`crew`]).

mod channel;
mod clock;
mod crew;
mod mutex;
pub(crate) mod scope;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use core_pinning::sync::oneshot;
use openraft_rt::{AsyncRuntime, OptionalSend};

pub(crate) use channel::{LocalMpsc, LocalOneshot, LocalWatch};
pub(crate) use clock::{Elapsed, Moment, Sleep, Timeout};
pub(crate) use mutex::LocalMutex;
pub(crate) use scope::TaskPanic;

/// openraft's runtime on the current shard. Only the conformance suite makes a value of it.
pub(crate) struct ShardRuntime(());

impl fmt::Debug for ShardRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardRuntime")
    }
}

/// Waits for a spawned task; dropping it leaves the task running.
pub(crate) struct JoinHandle<T>(oneshot::Receiver<Result<T, TaskPanic>>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskPanic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A task that is dropped before its end has no output: its shard ends.
        Pin::new(&mut self.0).poll(cx).map(|output| output.unwrap_or_else(|_| Err(TaskPanic("dropped".into()))))
    }
}

impl AsyncRuntime for ShardRuntime {
    type JoinError = TaskPanic;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Moment;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = rand::rngs::ThreadRng;
    type Mpsc = LocalMpsc;
    type Watch = LocalWatch;
    type Oneshot = LocalOneshot;
    type Mutex<T: OptionalSend + 'static> = LocalMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        JoinHandle(scope::spawn(future))
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(Moment::after(duration))
    }

    fn sleep_until(deadline: Moment) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::until(Moment::after(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Moment, future: F) -> Timeout<F> {
        Timeout::until(deadline, future)
    }

    fn is_panic(_error: &TaskPanic) -> bool {
        true
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        rand::rng()
    }

    fn new(_threads: usize) -> Self {
        ShardRuntime(())
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        core_pinning::run_local(|| future)
    }
}

#[cfg(test)]
mod tests;
