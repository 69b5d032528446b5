//! One waiter, one kept notification.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// Wakes one task; a notification that finds nobody waiting is kept (once) for the next wait.
#[derive(Default)]
pub struct Signal {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn new() -> Signal {
        Signal::default()
    }

    pub fn notify(&self) {
        self.set.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(w) = waiter {
            w.wake();
        }
    }

    /// Takes the notification if there is one.
    pub fn take(&self) -> bool {
        self.set.replace(false)
    }

    /// Waits for a notification and takes it. A second waiter displaces the first.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            let old = self.waiter.borrow_mut().replace(cx.waker().clone());
            drop(old);
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};
    use std::rc::Rc;

    #[test]
    fn a_notification_without_a_waiter_is_kept_once() {
        run_local(async || {
            let s = Rc::new(Signal::new());
            s.notify();
            s.notify();
            s.wait().await;
            assert!(!s.take());
            let (t, s2) = (Rc::new(Cell::new(false)), s.clone());
            let t2 = t.clone();
            let task = task::spawn_here("waiter", async move {
                s2.wait().await;
                t2.set(true);
            });
            task::yield_now().await;
            assert!(!t.get());
            s.notify();
            task.await;
            assert!(t.get());
        });
    }
}
