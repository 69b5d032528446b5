//! Clocks and timers of a shard.
//!
//! Waits of 8 ms and more end at the next multiple of 5 ms after their deadline, shorter ones on time. No timer is
//! ever early. A shard without timers has nothing armed.

use crate::{clock, shard::lane};
use std::{
    fmt,
    future::Future,
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point of CLOCK_MONOTONIC, in nanoseconds. Comparable between shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

/// Now.
pub fn now() -> Instant {
    Instant(clock::monotonic_ns())
}

/// Milliseconds since 1970 by the wall clock, which may jump; what Kafka calls a timestamp.
pub fn wall_ms() -> i64 {
    #[cfg(sim)]
    if let Some(ms) = crate::sim::world::with(|w| w.wall_ms()) {
        return ms;
    }
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        Err(e) => -i64::try_from(e.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

impl Instant {
    pub fn now() -> Instant {
        now()
    }

    /// Zero if this lies in the future.
    pub fn elapsed(self) -> Duration {
        now().saturating_duration_since(self)
    }

    /// Zero if `earlier` is the later one.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub fn as_nanos(self) -> u64 {
        self.0
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(d)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, d: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(d)))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, d: Duration) {
        *self = *self - d;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// Waits for at least `d`.
pub fn sleep(d: Duration) -> Sleep {
    sleep_until(now() + d)
}

/// Waits until `deadline` or a little longer; at once if it has passed.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// The wait of [`sleep`]. Nothing is registered before the first poll.
pub struct Sleep {
    deadline: Instant,
    /// Place in the shard's timers; `Some` from the first pending poll to the end.
    timer: Option<u32>,
}

impl Sleep {
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the deadline; the sleep starts anew.
    pub fn reset(&mut self, deadline: Instant) {
        self.forget();
        self.deadline = deadline;
    }

    fn forget(&mut self) {
        if let Some(i) = self.timer.take() {
            let waker = lane::with_reactor(|r| r.timers.borrow_mut().remove(i));
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(i) = self.timer {
            let fired = lane::with_reactor(|r| r.timers.borrow_mut().poll(i, cx.waker())).unwrap_or(true);
            if !fired {
                return Poll::Pending;
            }
            self.forget();
            return Poll::Ready(());
        }
        let (at, now) = (self.deadline.0, clock::monotonic_ns());
        if now >= at {
            return Poll::Ready(());
        }
        self.timer = lane::with_reactor(|r| r.timers.borrow_mut().insert(now, at, cx.waker().clone()));
        assert!(self.timer.is_some(), "sleep outside a shard");
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// `fut`, but no longer than `d`. `fut` is dropped with the returned future.
pub fn timeout<F: Future>(d: Duration, fut: F) -> Timeout<F> {
    timeout_at(now() + d, fut)
}

/// `fut`, but no longer than until `deadline`.
pub fn timeout_at<F: Future>(deadline: Instant, fut: F) -> Timeout<F> {
    Timeout { fut, sleep: sleep_until(deadline) }
}

pin_project_lite::pin_project! {
    /// The future of [`timeout`].
    pub struct Timeout<F> {
        #[pin]
        fut: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(v) = this.fut.poll(cx) {
            return Poll::Ready(Ok(v));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reactor::reactor_stats, run_local, task};
    use std::{
        cell::{Cell, RefCell},
        rc::Rc,
    };

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines_and_never_early() {
        run_local(async || {
            // Again where the machine has not let all of them begin before the first was over.
            let mut at_once = false;
            while !at_once {
                let (order, waiting, t0) = (Rc::new(RefCell::new(vec![])), Rc::new(Cell::new(0)), now());
                let tasks: Vec<_> = [40, 3, 1, 20, 7, 9]
                    .map(|ms| {
                        let (order, waiting) = (order.clone(), waiting.clone());
                        task::spawn_here("sleeper", async move {
                            waiting.set(waiting.get() + 1);
                            sleep_until(t0 + Duration::from_millis(ms)).await;
                            assert!(t0.elapsed() >= Duration::from_millis(ms), "woke early");
                            order.borrow_mut().push(ms);
                        })
                    })
                    .into();
                while waiting.get() < tasks.len() {
                    task::yield_now().await;
                }
                at_once = t0.elapsed() < Duration::from_millis(1);
                for t in tasks {
                    t.await;
                }
                assert!(!at_once || *order.borrow() == [1, 3, 7, 9, 20, 40], "{order:?}");
            }
        });
    }

    #[test]
    fn timeout_ends_a_wait_and_leaves_no_timer() {
        run_local(async || {
            let live = || lane::with_reactor(|r| r.timers.borrow().len()).unwrap();
            assert_eq!(timeout(Duration::from_millis(10), std::future::pending::<()>()).await, Err(Elapsed));
            assert_eq!(timeout(Duration::from_secs(60), async { 4 }).await, Ok(4));
            let late = timeout(Duration::from_secs(60), sleep(Duration::from_millis(1)));
            assert_eq!(late.await, Ok(()));
            assert_eq!(live(), 0);
        });
    }

    #[test]
    fn a_shard_that_waits_for_a_timer_sleeps() {
        run_local(async || {
            let (before, t0) = (reactor_stats(), now());
            sleep(Duration::from_millis(200)).await;
            let (turns, passed) = (reactor_stats().turns - before.turns, t0.elapsed());
            assert!(u128::from(turns) < 20 + passed.as_millis() / 10, "{turns} turns in {passed:?}");
        });
    }

    #[test]
    fn an_earlier_deadline_moves_the_wake_up() {
        run_local(async || {
            let long = task::spawn_here("long", sleep(Duration::from_secs(600)));
            sleep(Duration::from_millis(2)).await;
            sleep(Duration::from_millis(3)).await;
            assert!(!long.is_finished());
            long.cancel().await;
        });
    }
}
