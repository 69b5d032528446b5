//! Fetches that wait for a partition to grow.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core_pinning::sync::Signal;

/// One fetch request waiting on this shard, for all of its partitions here. Fires once enough bytes have arrived over
/// all of them, or something happened that the client must hear of.
pub struct FetchWaiter {
    missing: Cell<i64>,
    cancelled: Cell<bool>,
    signal: Signal,
}

impl FetchWaiter {
    /// `missing`: bytes still to come before the fetch is answered.
    pub fn new(missing: i64) -> Rc<FetchWaiter> {
        Rc::new(FetchWaiter { missing: Cell::new(missing), cancelled: Cell::new(false), signal: Signal::default() })
    }

    pub fn arrived(&self, bytes: usize) {
        self.missing.set(self.missing.get() - bytes as i64);
        if self.missing.get() <= 0 {
            self.signal.notify();
        }
    }

    pub fn fire(&self) {
        self.missing.set(0);
        self.signal.notify();
    }

    /// Nobody waits any longer.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        self.fire();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    pub async fn fired(&self) {
        self.signal.wait().await;
    }
}

#[derive(Default)]
pub(super) struct Waiters(RefCell<Vec<Rc<FetchWaiter>>>);

impl Waiters {
    pub(super) fn advanced(&self, bytes: usize) {
        self.0.borrow().iter().for_each(|w| w.arrived(bytes));
    }

    pub(super) fn wake_all(&self) {
        self.0.borrow().iter().for_each(|w| w.fire());
    }

    pub(super) fn add(&self, waiter: &Rc<FetchWaiter>) {
        self.0.borrow_mut().push(waiter.clone());
    }

    pub(super) fn remove(&self, waiter: &Rc<FetchWaiter>) {
        let mut waiters = self.0.borrow_mut();
        if let Some(place) = waiters.iter().position(|w| Rc::ptr_eq(w, waiter)) {
            waiters.swap_remove(place);
        }
    }
}
