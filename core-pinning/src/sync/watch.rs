//! The latest value, seen by many.

use super::{Closed, Event};
use std::{
    cell::{Cell, Ref, RefCell},
    rc::Rc,
};

struct Inner<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    changed: Event,
}

pub struct Sender<T>(Rc<Inner<T>>);

pub struct Receiver<T> {
    inner: Rc<Inner<T>>,
    seen: u64,
}

pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let inner = Rc::new(Inner {
        value: RefCell::new(value),
        version: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        changed: Event::new(),
    });
    (Sender(inner.clone()), Receiver { inner, seen: 0 })
}

impl<T> Sender<T> {
    /// Gives the value back if no receiver is left.
    pub fn send(&self, value: T) -> Result<(), T> {
        if self.0.receivers.get() == 0 {
            return Err(value);
        }
        self.set(value);
        Ok(())
    }

    /// Sets the value whether or not anybody looks.
    pub fn set(&self, value: T) {
        let old = self.0.value.replace(value);
        drop(old);
        self.notify();
    }

    /// Changes the value in place; waiters are woken if `modify` says so.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = modify(&mut self.0.value.borrow_mut());
        if modified {
            self.notify();
        }
        modified
    }

    fn notify(&self) {
        self.0.version.set(self.0.version.get() + 1);
        self.0.changed.notify_all();
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver { inner: self.0.clone(), seen: self.0.version.get() }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get() + 1);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if self.0.senders.get() == 0 {
            self.0.changed.notify_all();
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for a value that this receiver has not seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let listen = self.inner.changed.listen();
            let version = self.inner.version.get();
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.inner.senders.get() == 0 {
                return Err(Closed);
            }
            listen.await;
        }
    }

    pub fn has_changed(&self) -> bool {
        self.inner.version.get() != self.seen
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        self.inner.value.borrow()
    }

    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.inner.version.get();
        self.inner.value.borrow()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.inner.receivers.set(self.inner.receivers.get() + 1);
        Receiver { inner: self.inner.clone(), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.inner.receivers.set(self.inner.receivers.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};

    #[test]
    fn receivers_see_the_latest_value_once() {
        run_local(async || {
            let (tx, mut rx) = channel(0);
            tx.send(1).unwrap();
            tx.send(2).unwrap();
            assert_eq!(rx.changed().await, Ok(()));
            assert_eq!(*rx.borrow(), 2);
            assert!(!rx.has_changed());
            let mut late = tx.subscribe();
            let t = task::spawn_here("watcher", async move { (late.changed().await, *late.borrow()) });
            task::yield_now().await;
            assert!(!tx.send_if_modified(|_| false));
            assert!(tx.send_if_modified(|v| {
                *v = 7;
                true
            }));
            assert_eq!(t.await, (Ok(()), 7));
            rx.borrow_and_update();
            drop(tx);
            assert_eq!(rx.changed().await, Err(Closed));
        });
    }
}
