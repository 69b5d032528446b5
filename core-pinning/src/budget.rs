//! Memory units: who wants to hold bytes takes them from a budget first.

use crate::sync::Semaphore;
use std::{fmt, rc::Rc};

/// A fixed number of bytes, granted in the order of the calls. Cheap to clone; all clones are one budget.
#[derive(Clone)]
pub struct Budget(Rc<Inner>);

struct Inner {
    limit: usize,
    free: Semaphore,
}

impl Budget {
    pub fn new(limit: usize) -> Budget {
        Budget(Rc::new(Inner { limit, free: Semaphore::new(limit) }))
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    pub fn used(&self) -> usize {
        self.0.limit - self.0.free.available()
    }

    /// Tasks waiting in [`take`](Budget::take).
    pub fn waiting(&self) -> usize {
        self.0.free.waiting()
    }

    /// Takes `bytes` at once, or nothing. Asking for more than the limit asks for all of it, so that one large item
    /// passes alone.
    pub fn try_take(&self, bytes: usize) -> Option<BudgetUnits> {
        let bytes = bytes.min(self.0.limit);
        self.0.free.try_acquire(bytes)?.forget();
        Some(BudgetUnits { budget: self.clone(), bytes })
    }

    /// Waits for `bytes` (at most the limit, as [`try_take`](Budget::try_take)).
    pub async fn take(&self, bytes: usize) -> BudgetUnits {
        let bytes = bytes.min(self.0.limit);
        self.0.free.acquire(bytes).await.forget();
        BudgetUnits { budget: self.clone(), bytes }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {} bytes used)", self.used(), self.limit())
    }
}

/// Held bytes; dropping gives them back.
#[derive(Debug)]
pub struct BudgetUnits {
    budget: Budget,
    bytes: usize,
}

impl BudgetUnits {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`; does nothing if fewer are held.
    pub fn shrink_to(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        if back > 0 {
            self.budget.0.free.release(back);
        }
    }

    /// Takes over what `other`, of the same budget, holds.
    pub fn merge(&mut self, mut other: BudgetUnits) {
        debug_assert!(Rc::ptr_eq(&self.budget.0, &other.budget.0), "units of another budget");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Takes `bytes` out into units of their own; at most what is held.
    pub fn split(&mut self, bytes: usize) -> BudgetUnits {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        BudgetUnits { budget: self.budget.clone(), bytes }
    }
}

impl Drop for BudgetUnits {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};

    #[test]
    fn units_come_back_and_waiters_are_served_in_order() {
        run_local(async || {
            let b = Budget::new(100);
            let mut held = b.try_take(80).unwrap();
            assert!(b.try_take(30).is_none());
            let b2 = b.clone();
            let t = task::spawn_here("taker", async move { b2.take(60).await });
            task::yield_now().await;
            assert!(b.try_take(10).is_none(), "overtook a waiting task");
            held.shrink_to(50);
            task::yield_now().await;
            assert!(!t.is_finished());
            drop(held.split(20));
            let units = t.await;
            assert_eq!((b.used(), units.bytes(), held.bytes()), (90, 60, 30));
            held.merge(units);
            assert_eq!((b.used(), held.bytes()), (90, 90));
            drop(held);
            assert_eq!(b.used(), 0);
        });
    }

    #[test]
    fn more_than_the_limit_passes_alone() {
        run_local(async || {
            let b = Budget::new(10);
            let all = b.take(1000).await;
            assert_eq!((all.bytes(), b.used()), (10, 10));
            assert!(b.try_take(1).is_none());
        });
    }
}
