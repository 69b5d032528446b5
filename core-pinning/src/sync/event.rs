//! Many waiters, all woken at once.

use super::Waiters;
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// A condition changed: everybody who waited before the call of [`notify_all`](Event::notify_all) goes on.
/// Nothing is kept for later waits, so look at the condition after calling [`listen`](Event::listen), then await.
#[derive(Default)]
pub struct Event {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    round: u64,
    waiters: Waiters,
}

impl Event {
    pub fn new() -> Event {
        Event::default()
    }

    pub fn notify_all(&self) {
        let mut s = self.state.borrow_mut();
        s.round += 1;
        let woken = s.waiters.take_all();
        drop(s);
        woken.for_each(|w| w.wake());
    }

    /// Completes at the first notification after this call.
    pub fn listen(&self) -> Listen<'_> {
        Listen { event: self, round: self.state.borrow().round, ticket: None }
    }

    /// Waits until `ready` holds, looking again at every notification.
    pub async fn wait_for(&self, mut ready: impl FnMut() -> bool) {
        while !ready() {
            self.listen().await
        }
    }

    pub fn waiters(&self) -> usize {
        self.state.borrow().waiters.len()
    }
}

pub struct Listen<'a> {
    event: &'a Event,
    round: u64,
    ticket: Option<u64>,
}

impl Future for Listen<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        let mut s = event.state.borrow_mut();
        if s.round != self.round {
            self.ticket = None;
            return Poll::Ready(());
        }
        match self.ticket {
            Some(t) => {
                s.waiters.update(t, cx.waker());
            }
            None => self.ticket = Some(s.waiters.push(cx.waker(), ())),
        }
        Poll::Pending
    }
}

impl Drop for Listen<'_> {
    fn drop(&mut self) {
        if let Some(t) = self.ticket {
            self.event.state.borrow_mut().waiters.remove(t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};
    use std::{cell::Cell, rc::Rc};

    #[test]
    fn everybody_waiting_is_woken_and_a_dropped_wait_leaves_nothing() {
        run_local(async || {
            let (e, n) = (Rc::new(Event::new()), Rc::new(Cell::new(0)));
            for _ in 0..3 {
                let (e, n) = (e.clone(), n.clone());
                task::spawn_here("waiter", async move {
                    e.listen().await;
                    n.set(n.get() + 1);
                });
            }
            task::yield_now().await;
            {
                let mut l = std::pin::pin!(e.listen());
                let mut cx = Context::from_waker(std::task::Waker::noop());
                assert!(l.as_mut().poll(&mut cx).is_pending());
                assert_eq!(e.waiters(), 4);
            }
            assert_eq!(e.waiters(), 3);
            e.notify_all();
            task::yield_now().await;
            assert_eq!((n.get(), e.waiters()), (3, 0));
        });
    }

    #[test]
    fn a_notification_between_listen_and_await_counts() {
        run_local(async || {
            let e = Event::new();
            let l = e.listen();
            e.notify_all();
            l.await;
        });
    }
}
