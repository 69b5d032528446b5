//! One value from one task to another.

use super::Closed;
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

struct Inner<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender: bool,
    receiver: bool,
}

pub struct Sender<T>(Rc<RefCell<Inner<T>>>);
pub struct Receiver<T>(Rc<RefCell<Inner<T>>>);

pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let inner = Rc::new(RefCell::new(Inner { value: None, waker: None, sender: true, receiver: true }));
    (Sender(inner.clone()), Receiver(inner))
}

impl<T> Sender<T> {
    /// Gives the value back if the receiver is gone.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut i = self.0.borrow_mut();
        if !i.receiver {
            return Err(value);
        }
        i.value = Some(value);
        Ok(()) // dropping the sender wakes the receiver
    }

    pub fn is_closed(&self) -> bool {
        !self.0.borrow().receiver
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut i = self.0.borrow_mut();
        i.sender = false;
        let waker = i.waker.take();
        drop(i);
        if let Some(w) = waker {
            w.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The value if it has been sent.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.borrow_mut().value.take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut i = self.0.borrow_mut();
        if let Some(v) = i.value.take() {
            return Poll::Ready(Ok(v));
        }
        if !i.sender {
            return Poll::Ready(Err(Closed));
        }
        if !i.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            i.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut i = self.0.borrow_mut();
        i.receiver = false;
        let unread = i.value.take();
        let waker = i.waker.take();
        drop(i);
        drop((unread, waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};

    #[test]
    fn value_or_closed() {
        run_local(async || {
            let (tx, rx) = channel();
            let t = task::spawn_here("receiver", rx);
            tx.send(5).unwrap();
            assert_eq!(t.await, Ok(5));
            let (tx, rx) = channel::<i32>();
            drop(tx);
            assert_eq!(rx.await, Err(Closed));
            let (tx, rx) = channel();
            drop(rx);
            assert!(tx.is_closed());
            assert_eq!(tx.send(1), Err(1));
        });
    }
}
