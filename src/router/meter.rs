//! Work that is done for somebody, on whichever shard it has to be done: all of it is counted where he is.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use core_pinning::time::{Instant, now};

thread_local! {
    /// Of whom this shard works for at the moment.
    static CURRENT: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

#[derive(Clone, Default)]
pub struct Meter(Rc<Count>);

#[derive(Default)]
struct Count {
    spent: Cell<Duration>,
    /// Work goes on since then.
    since: Cell<Option<Instant>>,
}

impl Meter {
    /// With what is being done now.
    pub fn spent(&self) -> Duration {
        self.0.spent.get() + self.0.since.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    pub(super) fn add(&self, work: Duration) {
        self.0.spent.set(self.0.spent.get() + work);
    }

    /// `None`: nobody wants to know how long it works.
    pub fn current() -> Option<Meter> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Does work and counts it, and what other shards do for the calls that it makes.
    pub fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        self.0.since.set(Some(now()));
        let done = work();
        self.0.spent.set(self.spent());
        self.0.since.set(None);
        CURRENT.set(before);
        done
    }
}

/// Work that takes its time: what it does is counted, and not how long it waits.
pub struct Metered<T> {
    work: Pin<Box<dyn Future<Output = T>>>,
    meter: Meter,
}

impl<T> Metered<T> {
    pub fn new(meter: Meter, work: Pin<Box<dyn Future<Output = T>>>) -> Metered<T> {
        Metered { work, meter }
    }
}

impl<T> Future for Metered<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Metered { work, meter } = self.get_mut();
        meter.count(|| work.as_mut().poll(context))
    }
}
