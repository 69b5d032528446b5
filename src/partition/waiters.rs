//! Fetches that wait for a partition to grow.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core_pinning::sync::Signal;
use corelane_storage::model::Offset;

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

/// Those who wait for the high watermark, and those who wait for the last stable offset.
#[derive(Default)]
pub(super) struct Waiters {
    all: RefCell<Vec<Rc<FetchWaiter>>>,
    committed: RefCell<Vec<Rc<FetchWaiter>>>,
    /// Where the last stable offset was seen last, and the bytes that were applied and may still lie behind it.
    stable: Cell<Offset>,
    unstable_bytes: Cell<usize>,
}

impl Waiters {
    pub(super) fn advanced(&self, bytes: usize, high_watermark: Offset, last_stable: Offset) {
        self.all.borrow().iter().for_each(|w| w.arrived(bytes));
        let bytes = self.unstable_bytes.get() + bytes;
        if self.stable.replace(last_stable) != last_stable {
            // Perhaps not all of them are stable yet: who is woken too early waits again.
            self.committed.borrow().iter().for_each(|w| w.arrived(bytes));
        }
        self.unstable_bytes.set(if last_stable == high_watermark { 0 } else { bytes });
    }

    pub(super) fn wake_all(&self) {
        self.all.borrow().iter().chain(self.committed.borrow().iter()).for_each(|w| w.fire());
    }

    pub(super) fn add(&self, waiter: &Rc<FetchWaiter>, committed: bool) {
        self.list(committed).borrow_mut().push(waiter.clone());
    }

    fn list(&self, committed: bool) -> &RefCell<Vec<Rc<FetchWaiter>>> {
        if committed { &self.committed } else { &self.all }
    }

    pub(super) fn remove(&self, waiter: &Rc<FetchWaiter>, committed: bool) {
        let mut waiters = self.list(committed).borrow_mut();
        if let Some(place) = waiters.iter().position(|w| Rc::ptr_eq(w, waiter)) {
            waiters.swap_remove(place);
        }
    }
}
