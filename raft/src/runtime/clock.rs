//! openraft's instants, sleeps and timeouts over the shard's clock and timer wheel.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use core_pinning::time;
use openraft_rt::Instant;
use pin_project_lite::pin_project;

/// A point in the shard's monotonic time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(time::Instant);

impl Moment {
    /// `duration` from now.
    pub(crate) fn after(duration: Duration) -> Moment {
        Moment(time::now() + duration)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Instant for Moment {
    fn now() -> Moment {
        Moment(time::now())
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, d: Duration) -> Moment {
        Moment(self.0 + d)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, d: Duration) -> Moment {
        Moment(self.0 - d)
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, d: Duration) {
        *self = *self - d;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.0 - earlier.0
    }
}

pin_project! {
    /// Ready at a deadline. Nothing is registered when the deadline has passed at the first poll.
    pub(crate) struct Sleep {
        #[pin]
        timer: time::Sleep,
    }
}

impl Sleep {
    pub(crate) fn until(deadline: Moment) -> Sleep {
        Sleep { timer: time::sleep_until(deadline.0) }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().timer.poll(cx)
    }
}

/// The deadline of a [`Timeout`] passed first.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

pin_project! {
    /// `F`, or [`Elapsed`] when its deadline passes first. A future that is ready wins over a deadline that passed.
    pub(crate) struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

impl<F: Future> Timeout<F> {
    pub(crate) fn until(deadline: Moment, future: F) -> Timeout<F> {
        Timeout { future, sleep: Sleep::until(deadline) }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(v) = this.future.poll(cx) {
            return Poll::Ready(Ok(v));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed))
    }
}
