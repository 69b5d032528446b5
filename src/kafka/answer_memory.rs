//! What answers take of a shard's memory, from before they are made until the kernel has sent them.
//!
//! A client that asks for much and reads nothing thus holds a bounded share, and only for so long as nobody else waits for
//! it. The bound of all answers is the shard's budget; one connection has one large answer at a time, since it reads no
//! further request meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::budget::{Budget, BudgetUnits};
use core_pinning::time::{Instant, now, timeout};
use corelane_protocol::ApiKey;
use hashbrown::HashMap;

use super::transport::Transport;

/// What is reserved for one answer at least, and where most of the budget is taken, at most, or half of what is left: a
/// fetch answers with a whole batch however little it asks for (Kafka's default of message.max.bytes).
const LEAST: usize = 1 << 20;
/// An API whose answers are smaller is not made to wait for memory.
const LARGE: usize = 64 << 10;
/// Unsent bytes of a connection that do not count: they are no more than the connection itself.
const SMALL: usize = 16 << 10;
/// Unsent bytes of answers above which a connection reads no further request.
const UNSENT_MAX: usize = 1 << 20;
/// A peer that takes nothing for so long while others wait for memory loses its connection.
const UNREAD_MAX: Duration = Duration::from_secs(1);
/// How often a connection with unsent answers looks whether that is so.
const UNREAD_CHECK: Duration = Duration::from_millis(200);

/// Why answers will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The peer is gone.
    Gone,
    /// It takes nothing, while others wait for the memory.
    Unread,
}

/// The budget of one shard.
pub struct AnswerBudget {
    budget: Budget,
    /// How large the answers of an API have been lately.
    sizes: RefCell<HashMap<ApiKey, usize>>,
}

impl AnswerBudget {
    pub fn new(bytes: usize) -> AnswerBudget {
        AnswerBudget { budget: Budget::new(bytes), sizes: RefCell::default() }
    }

    pub fn answer(&self) -> AnswerMemory {
        AnswerMemory { budget: self.budget.clone(), held: Rc::default() }
    }

    /// Bytes to reserve for the next answer of `api`, whose request says so much (and the answer as much, or more); `None`: it
    /// is small.
    pub fn expected(&self, api: ApiKey, said: usize) -> Option<usize> {
        // These wait for other members of their group, who must not have to wait for them.
        let waits = matches!(api, ApiKey::JoinGroup | ApiKey::SyncGroup);
        let lately = self.sizes.borrow().get(&api).copied().unwrap_or(0);
        Some(lately.max(said)).filter(|size| *size >= LARGE && !waits)
    }

    pub fn note(&self, api: ApiKey, size: usize) {
        let mut sizes = self.sizes.borrow_mut();
        let expected = sizes.entry(api).or_default();
        *expected = size.max(*expected / 8 * 7);
    }
}

/// What one answer holds. Clones are one.
#[derive(Clone)]
pub struct AnswerMemory {
    budget: Budget,
    held: Rc<RefCell<Option<BudgetUnits>>>,
}

impl AnswerMemory {
    /// Holds up to `bytes`, or a little more, instead of what it held; says how many it got.
    pub async fn reserve(&self, bytes: usize) -> usize {
        self.held.take();
        let bytes = bytes.max(LEAST);
        let free = self.budget.limit() - self.budget.used();
        let units = self.budget.take(if bytes > free / 2 { bytes.min((free / 2).max(LEAST)) } else { bytes }).await;
        let got = units.bytes();
        self.held.replace(Some(units));
        got
    }

    /// Gives back what is above `bytes`.
    pub fn shrink_to(&self, bytes: usize) {
        self.held.borrow_mut().iter_mut().for_each(|units| units.shrink_to(bytes));
    }
}

/// The answers of one connection that the kernel has not taken, and what they hold.
pub struct Outbox {
    conn: Rc<Transport>,
    budget: Budget,
    held: Option<BudgetUnits>,
    /// What was unsent when the peer last took something, and when that was.
    progress: Cell<(usize, Instant)>,
}

impl Outbox {
    pub fn new(conn: Rc<Transport>, budget: &AnswerBudget) -> Outbox {
        Outbox { conn, budget: budget.budget.clone(), held: None, progress: Cell::new((0, now())) }
    }

    /// Queues an answer, and waits where too much is queued.
    pub async fn send(&mut self, slices: Vec<Bytes>, memory: AnswerMemory) -> Result<(), Unsent> {
        self.held = match (self.held.take(), memory.held.take()) {
            (Some(mut held), Some(more)) => {
                held.merge(more);
                Some(held)
            }
            (held, more) => held.or(more),
        };
        let (before, (last, since)) = (self.conn.unsent(), self.progress.get());
        self.conn.send(slices);
        let nothing_taken = before > 0 && before >= last;
        self.progress.set((self.conn.unsent(), if nothing_taken { since } else { now() }));
        self.settle();
        self.sent(UNSENT_MAX).await?;
        self.settle();
        Ok(())
    }

    /// Holds what is unsent. What no memory was reserved for counts as far as there is any left.
    pub fn settle(&mut self) {
        let bytes = self.conn.unsent();
        if bytes <= SMALL {
            self.held = None;
            return;
        }
        match &mut self.held {
            Some(units) if units.bytes() >= bytes => units.shrink_to(bytes),
            Some(units) => self.budget.try_take(bytes - units.bytes()).into_iter().for_each(|more| units.merge(more)),
            None => self.held = self.budget.try_take(bytes),
        }
    }

    /// Waits until next to nothing is unsent; for ever where that is so already.
    pub async fn emptied(&self) -> Result<(), Unsent> {
        if self.held.is_none() && self.conn.unsent() <= SMALL {
            std::future::pending::<()>().await;
        }
        self.sent(SMALL).await
    }

    /// Waits until at most `limit` bytes are left unsent.
    pub async fn sent(&self, limit: usize) -> Result<(), Unsent> {
        loop {
            if let Ok(sent) = timeout(UNREAD_CHECK, self.conn.flushed(limit)).await {
                return sent.map_err(|_| Unsent::Gone);
            }
            let (unsent, since) = self.progress.get();
            if self.conn.unsent() < unsent {
                self.progress.set((self.conn.unsent(), now()));
            } else if now() - since > UNREAD_MAX && self.budget.waiting() > 0 {
                return Err(Unsent::Unread);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_less_where_little_is_left_and_give_back_what_they_do_not_need() {
        core_pinning::run_local(async || {
            let budget = AnswerBudget::new(16 << 20);
            let (first, second, third) = (budget.answer(), budget.answer(), budget.answer());
            assert_eq!(first.reserve(4 << 20).await, 4 << 20);
            assert_eq!(second.reserve(1 << 30).await, 6 << 20, "half of what is left");
            assert_eq!(third.reserve(1 << 30).await, 3 << 20);
            second.shrink_to(10);
            third.shrink_to(20);
            assert_eq!(budget.budget.used(), (4 << 20) + 30);
            assert_eq!(second.reserve(100).await, 1 << 20, "instead of what it held");
            assert_eq!(budget.budget.used(), (5 << 20) + 20);
            drop((first, second, third));
            assert_eq!(budget.budget.used(), 0);
        });
    }

    #[test]
    fn large_answers_are_expected_again() {
        let budget = AnswerBudget::new(1 << 20);
        assert_eq!(budget.expected(ApiKey::Metadata, 100), None);
        assert_eq!(budget.expected(ApiKey::Metadata, 1 << 20), Some(1 << 20));
        budget.note(ApiKey::Metadata, 800 << 10);
        assert_eq!(budget.expected(ApiKey::Metadata, 0), Some(800 << 10));
        (0..40).for_each(|_| budget.note(ApiKey::Metadata, 100));
        assert_eq!(budget.expected(ApiKey::Metadata, 0), None);
    }
}
