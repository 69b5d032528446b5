//! What requests take of a shard's memory, from their first bytes until they are answered.
//!
//! | part     | for requests                                          |
//! |----------|-------------------------------------------------------|
//! | small    | of up to 64 KiB that have come whole                  |
//! | whole    | of which up to 256 KiB are missing, and those have come |
//! | ordinary | of up to 2 MiB, with a batch of the largest size that is let in |
//! | giant    | all others                                            |
//!
//! Each part is granted in the order of the asking; one that has none left for a request may be helped out by those below it. So
//! neither giants nor requests that come slowly, however many of them there are, hold up what others send.
//!
//! What comes bit by bit gets memory bit by bit. Many that each hold some and wait for more would wait for each other: so there is a
//! reserve, of which a request that has begun gets all that it will ever need, or nothing.

use std::time::Duration;

use core_pinning::budget::{Budget, BudgetUnits};
use core_pinning::time::{Elapsed, timeout};
use futures::{FutureExt, select_biased};

pub const SMALL: usize = 64 << 10;
/// What a connection may queue unread, which is how a request is seen to have come.
pub const WHOLE: usize = 256 << 10;
const ORDINARY: usize = 2 << 20;

/// Bytes of a part for what comes bit by bit.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub shared: usize,
    pub reserve: usize,
}

/// Bytes of each part.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts {
    pub small: usize,
    pub whole: usize,
    pub ordinary: Part,
    pub giant: Part,
}

impl RequestParts {
    /// Of a shard whose share is so large, and which takes requests of up to `request_max`.
    pub fn of_share(share: usize, request_max: usize) -> RequestParts {
        let (own, common) = ((share / 32).max(1 << 20), share / 16);
        RequestParts {
            small: own,
            whole: own,
            ordinary: Part { shared: common.max(2 * ORDINARY), reserve: 2 * ORDINARY },
            giant: Part { shared: common.saturating_sub(request_max).max(1 << 20), reserve: request_max },
        }
    }

    /// Where the largest requests are a few hundred KiB.
    pub fn of_logins(bytes: usize) -> RequestParts {
        let part = |bytes: usize| Part { shared: bytes / 2, reserve: bytes / 2 };
        RequestParts { small: bytes / 4, whole: bytes / 8, ordinary: part(bytes / 2), giant: part(bytes / 8) }
    }

    pub fn total(&self) -> usize {
        let RequestParts { small, whole, ordinary, giant } = *self;
        small + whole + ordinary.shared + ordinary.reserve + giant.shared + giant.reserve
    }
}

/// What a request needs more.
#[derive(Clone, Copy)]
pub struct Claim {
    pub bytes: usize,
    /// All that it will ever need more.
    pub rest: usize,
    /// The size of the request.
    pub size: usize,
    /// What is missing of it has come.
    pub has_come: bool,
}

impl Claim {
    pub fn of_whole(bytes: usize) -> Claim {
        Claim { bytes, rest: bytes, size: bytes, has_come: true }
    }
}

/// Clones are one.
#[derive(Clone)]
pub struct RequestMemory {
    small: Budget,
    whole: Budget,
    ordinary: Bitwise,
    giant: Bitwise,
}

#[derive(Clone)]
struct Bitwise {
    shared: Budget,
    reserve: Budget,
}

impl Bitwise {
    fn new(part: Part) -> Bitwise {
        Bitwise { shared: Budget::new(part.shared), reserve: Budget::new(part.reserve) }
    }

    fn waiting(&self) -> usize {
        self.shared.waiting() + self.reserve.waiting()
    }

    async fn take(&self, claim: Claim) -> (BudgetUnits, usize) {
        let has_begun = claim.rest < claim.size;
        let rest = async {
            match has_begun {
                true => self.reserve.take(claim.rest).await,
                false => std::future::pending().await,
            }
        };
        select_biased! {
            some = self.shared.take(claim.bytes).fuse() => (some, claim.bytes),
            all = rest.fuse() => (all, claim.rest),
        }
    }
}

impl RequestMemory {
    pub fn new(parts: RequestParts) -> RequestMemory {
        let RequestParts { small, whole, ordinary, giant } = parts;
        let [ordinary, giant] = [ordinary, giant].map(Bitwise::new);
        RequestMemory { small: Budget::new(small), whole: Budget::new(whole), ordinary, giant }
    }

    /// The parts that may serve it, its own first.
    fn parts(&self, claim: Claim) -> impl Iterator<Item = &Budget> {
        let small = claim.has_come && claim.size <= SMALL;
        let whole = claim.has_come && claim.bytes <= WHOLE;
        let ordinary = claim.size <= ORDINARY;
        let all =
            [(small, &self.small), (whole, &self.whole), (ordinary, &self.ordinary.shared), (true, &self.giant.shared)];
        all.into_iter().filter_map(|(may, part)| may.then_some(part))
    }

    pub fn try_take(&self, claim: Claim) -> Option<BudgetUnits> {
        self.parts(claim).find_map(|part| part.try_take(claim.bytes))
    }

    /// Waits for its own part, at most so long. Says for how many bytes that is: those asked for, or the rest.
    pub async fn take(&self, claim: Claim, limit: Duration) -> Result<(BudgetUnits, usize), Elapsed> {
        let taken = async {
            match (claim.has_come, claim.bytes) {
                (true, ..=WHOLE) if claim.size <= SMALL => (self.small.take(claim.bytes).await, claim.bytes),
                (true, ..=WHOLE) => (self.whole.take(claim.bytes).await, claim.bytes),
                _ if claim.size <= ORDINARY => self.ordinary.take(claim).await,
                _ => self.giant.take(claim).await,
            }
        };
        timeout(limit, taken).await
    }

    /// Somebody waits for what requests of that size hold that come slowly.
    pub fn is_wanted(&self, size: usize) -> bool {
        self.giant.waiting() > 0 || size <= ORDINARY && self.ordinary.waiting() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> RequestMemory {
        let (ordinary, giant) =
            (Part { shared: 4 << 20, reserve: 2 << 20 }, Part { shared: 8 << 20, reserve: 8 << 20 });
        RequestMemory::new(RequestParts { small: 100 << 10, whole: 256 << 10, ordinary, giant })
    }

    fn coming(size: usize) -> Claim {
        Claim { has_come: false, ..Claim::of_whole(size) }
    }

    #[test]
    fn requests_have_memory_that_larger_and_slower_ones_do_not_take() {
        let memory = memory();
        let _giants = memory.try_take(coming(8 << 20)).unwrap();
        assert!(memory.try_take(coming(ORDINARY + 1)).is_none());
        let _ordinary = [0; 2].map(|_| memory.try_take(coming(ORDINARY)).unwrap());
        assert!(memory.try_take(coming(10)).is_none(), "a part of one");
        let _whole = memory.try_take(Claim::of_whole(WHOLE)).unwrap();
        assert!(memory.try_take(Claim::of_whole(SMALL + 1)).is_none());
        let _small = memory.try_take(Claim::of_whole(SMALL)).unwrap();
        assert!(memory.try_take(Claim::of_whole(SMALL)).is_none(), "it is bounded, too");
    }

    #[test]
    fn the_rest_of_a_large_request_that_has_come_is_taken_as_what_has_come_whole() {
        let memory = memory();
        let _giants = memory.try_take(coming(8 << 20)).unwrap();
        let rest = Claim { bytes: WHOLE, rest: WHOLE, size: 8 << 20, has_come: true };
        assert!(memory.try_take(rest).is_some());
        assert!(memory.try_take(Claim { has_come: false, ..rest }).is_none());
    }

    #[test]
    fn small_requests_use_what_is_left_of_all_parts() {
        let memory = memory();
        let held: Vec<_> = std::iter::from_fn(|| memory.try_take(Claim::of_whole(SMALL))).collect();
        assert_eq!(held.len(), 1 + 4 + 64 + 128);
    }

    #[test]
    fn what_is_wanted_is_what_somebody_waits_for() {
        core_pinning::run_local(async || {
            let memory = memory();
            let held = memory.try_take(coming(8 << 20)).unwrap();
            let _ordinary = [0; 2].map(|_| memory.try_take(coming(ORDINARY)).unwrap());
            assert!(!memory.is_wanted(1));
            let waits = |claim: Claim| {
                let memory = memory.clone();
                core_pinning::spawn_here(
                    "waits",
                    async move { memory.take(claim, Duration::from_secs(60)).await.is_ok() },
                )
            };
            let ordinary = waits(coming(10));
            core_pinning::yield_now().await;
            assert!(memory.is_wanted(ORDINARY) && !memory.is_wanted(ORDINARY + 1));
            let giant = waits(coming(ORDINARY + 1));
            core_pinning::yield_now().await;
            assert!(memory.is_wanted(ORDINARY) && memory.is_wanted(ORDINARY + 1));
            drop(held);
            assert!(giant.await);
            drop(ordinary);
        });
    }

    #[test]
    fn requests_that_wait_for_more_do_not_wait_for_each_other() {
        core_pinning::run_local(async || {
            let memory = memory();
            const SIZE: usize = 6 << 20;
            let step = |rest: usize| Claim { bytes: 1 << 20, rest, size: SIZE, has_come: false };
            let begun: Vec<_> = (0..8).map(|_| memory.try_take(step(SIZE)).unwrap()).collect();
            let all = begun.into_iter().map(|first| {
                let memory = memory.clone();
                core_pinning::spawn_here("grows", async move {
                    let (mut rest, mut held) = (SIZE - first.bytes(), vec![first]);
                    while rest > 0 {
                        let (more, bytes) = memory.take(step(rest), Duration::from_secs(600)).await.expect("memory");
                        rest -= bytes;
                        held.push(more);
                    }
                })
            });
            for grown in all.collect::<Vec<_>>() {
                grown.await;
            }
        });
    }
}
