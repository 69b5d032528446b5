//! A first-in first-out list of waiting tasks, from which any may leave early.

use std::{collections::VecDeque, task::Waker};

/// Tickets are handed out in order; each stays in the list until it is woken or removed.
#[derive(Default)]
pub(crate) struct Waiters<T = ()> {
    queue: VecDeque<Waiter<T>>,
    next: u64,
}

struct Waiter<T> {
    ticket: u64,
    waker: Waker,
    value: T,
}

impl<T> Waiters<T> {
    pub fn new() -> Self {
        Waiters { queue: VecDeque::new(), next: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Joins the end of the queue.
    pub fn push(&mut self, waker: &Waker, value: T) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.queue.push_back(Waiter { ticket, waker: waker.clone(), value });
        ticket
    }

    fn find(&self, ticket: u64) -> Option<usize> {
        self.queue.binary_search_by_key(&ticket, |w| w.ticket).ok()
    }

    /// True if `ticket` still waits; its waker is brought up to date.
    pub fn update(&mut self, ticket: u64, waker: &Waker) -> bool {
        match self.find(ticket).and_then(|i| self.queue.get_mut(i)) {
            Some(w) => {
                w.waker.clone_from(waker);
                true
            }
            None => false,
        }
    }

    /// Leaves the queue; true if it had not been woken yet.
    pub fn remove(&mut self, ticket: u64) -> bool {
        self.find(ticket).and_then(|i| self.queue.remove(i)).is_some()
    }

    pub fn front(&self) -> Option<&T> {
        self.queue.front().map(|w| &w.value)
    }

    pub fn pop(&mut self) -> Option<(Waker, T)> {
        self.queue.pop_front().map(|w| (w.waker, w.value))
    }

    /// Takes out everybody; waking them is the caller's, once it holds no borrow.
    pub fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<T> {
        std::mem::take(&mut self.queue).into_iter().map(|w| w.waker)
    }
}
