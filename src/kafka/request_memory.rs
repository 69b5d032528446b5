//! What requests take of a shard's memory, from their first bytes until they are answered.
//!
//! Small requests that have come whole have a part of their own: neither the large ones nor those that come slowly, however many
//! of them there are, hold them up.

use std::time::Duration;

use core_pinning::budget::{Budget, BudgetUnits};
use core_pinning::time::{Elapsed, timeout};

/// A request that may use the part for small ones.
pub const SMALL: usize = 64 << 10;

/// Clones are one.
#[derive(Clone)]
pub struct RequestMemory {
    small: Budget,
    /// For all.
    common: Budget,
}

impl RequestMemory {
    pub fn new(small: usize, common: usize) -> RequestMemory {
        RequestMemory { small: Budget::new(small), common: Budget::new(common) }
    }

    /// `whole`: it is all that a request needs.
    pub fn try_take(&self, bytes: usize, whole: bool) -> Option<BudgetUnits> {
        let small = if whole && bytes <= SMALL { self.small.try_take(bytes) } else { None };
        small.or_else(|| self.common.try_take(bytes))
    }

    /// Waits for `bytes`, at most so long.
    pub async fn take(&self, bytes: usize, whole: bool, limit: Duration) -> Result<BudgetUnits, Elapsed> {
        let budget = if whole && bytes <= SMALL { &self.small } else { &self.common };
        timeout(limit, budget.take(bytes)).await
    }

    /// Somebody waits for what others hold.
    pub fn is_wanted(&self) -> bool {
        self.small.waiting() + self.common.waiting() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_whole_requests_have_memory_that_no_others_take() {
        core_pinning::run_local(async || {
            let memory = RequestMemory::new(100 << 10, 1 << 20);
            let _large = memory.try_take(1 << 20, true).unwrap();
            assert!(memory.try_take(10, false).is_none(), "a part of one");
            assert!(memory.try_take(SMALL + 1, true).is_none());
            let first = memory.try_take(SMALL, true).unwrap();
            assert!(memory.try_take(SMALL, true).is_none(), "it is bounded, too");
            assert!(!memory.is_wanted());
            let waiting = memory.clone();
            let waiting = core_pinning::spawn_here("waits", async move {
                waiting.take(SMALL, true, Duration::from_secs(60)).await.is_ok()
            });
            core_pinning::yield_now().await;
            assert!(memory.is_wanted());
            drop(first);
            assert!(waiting.await);
        });
    }

    #[test]
    fn small_requests_use_what_is_left_for_all() {
        core_pinning::run_local(async || {
            let memory = RequestMemory::new(SMALL, 1 << 20);
            let _held: Vec<_> = (0..17).map(|_| memory.try_take(SMALL, true).unwrap()).collect();
            assert!(memory.try_take(1, true).is_none());
        });
    }
}
