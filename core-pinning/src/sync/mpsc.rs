//! A bounded queue from many tasks to one.

use super::Waiters;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

struct Inner<T> {
    queue: VecDeque<T>,
    cap: usize,
    /// Places promised to senders that were woken but have not come yet.
    promised: usize,
    senders: usize,
    receiver: bool,
    waker: Option<Waker>,
    waiting: Waiters,
}

impl<T> Inner<T> {
    fn has_room(&self) -> bool {
        self.queue.len() + self.promised < self.cap
    }
    /// Promises a free place to the next waiting sender.
    fn next_sender(&mut self) -> Option<Waker> {
        if !self.has_room() {
            return None;
        }
        let (w, ()) = self.waiting.pop()?;
        self.promised += 1;
        Some(w)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    Full(T),
    Closed(T),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    Empty,
    Closed,
}

pub struct Sender<T>(Rc<RefCell<Inner<T>>>);
/// Does not keep the channel open.
pub struct WeakSender<T>(Weak<RefCell<Inner<T>>>);
pub struct Receiver<T>(Rc<RefCell<Inner<T>>>);

/// A channel of at most `cap` values (at least 1); memory grows with use.
pub fn channel<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    let inner = Rc::new(RefCell::new(Inner {
        queue: VecDeque::new(),
        cap: cap.max(1),
        promised: 0,
        senders: 1,
        receiver: true,
        waker: None,
        waiting: Waiters::new(),
    }));
    (Sender(inner.clone()), Receiver(inner))
}

impl<T> Sender<T> {
    /// Waits for room, in the order of the calls. Gives the value back if the receiver is gone.
    pub fn send(&self, value: T) -> Send<'_, T> {
        Send { to: self, value: Some(value), ticket: None }
    }

    /// Fails if the channel is full or others wait to send.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut i = self.0.borrow_mut();
        if !i.receiver {
            return Err(TrySendError::Closed(value));
        }
        if !i.waiting.is_empty() || !i.has_room() {
            return Err(TrySendError::Full(value));
        }
        i.queue.push_back(value);
        let waker = i.waker.take();
        drop(i);
        if let Some(w) = waker {
            w.wake();
        }
        Ok(())
    }

    pub fn is_closed(&self) -> bool {
        !self.0.borrow().receiver
    }

    pub fn len(&self) -> usize {
        self.0.borrow().queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Rc::downgrade(&self.0))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.borrow_mut().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut i = self.0.borrow_mut();
        i.senders -= 1;
        let waker = if i.senders == 0 { i.waker.take() } else { None };
        drop(i);
        if let Some(w) = waker {
            w.wake();
        }
    }
}

impl<T> WeakSender<T> {
    /// `None` once all senders are gone.
    pub fn upgrade(&self) -> Option<Sender<T>> {
        let inner = self.0.upgrade()?;
        let mut i = inner.borrow_mut();
        if i.senders == 0 {
            return None;
        }
        i.senders += 1;
        drop(i);
        Some(Sender(inner))
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        WeakSender(self.0.clone())
    }
}

/// The wait for [`Sender::send`].
pub struct Send<'a, T> {
    to: &'a Sender<T>,
    value: Option<T>,
    ticket: Option<u64>,
}

impl<T> Unpin for Send<'_, T> {}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), T>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut i = this.to.0.borrow_mut();
        if i.receiver {
            match this.ticket {
                Some(t) if i.waiting.update(t, cx.waker()) => return Poll::Pending,
                Some(_) => i.promised -= 1,
                None if i.waiting.is_empty() && i.has_room() => {}
                None => {
                    this.ticket = Some(i.waiting.push(cx.waker(), ()));
                    return Poll::Pending;
                }
            }
        }
        this.ticket = None;
        let value = this.value.take().expect("polled after completion");
        if !i.receiver {
            return Poll::Ready(Err(value));
        }
        i.queue.push_back(value);
        let waker = i.waker.take();
        drop(i);
        if let Some(w) = waker {
            w.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Send<'_, T> {
    fn drop(&mut self) {
        let Some(t) = self.ticket else { return };
        let mut i = self.to.0.borrow_mut();
        if i.receiver && !i.waiting.remove(t) {
            i.promised -= 1;
            let next = i.next_sender();
            drop(i);
            if let Some(w) = next {
                w.wake();
            }
        }
    }
}

impl<T> Receiver<T> {
    /// The next value; `None` when all senders are gone and nothing is left.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.try_recv() {
            Ok(v) => Poll::Ready(Some(v)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                let mut i = self.0.borrow_mut();
                if !i.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    i.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut i = self.0.borrow_mut();
        let Some(v) = i.queue.pop_front() else {
            return Err(if i.senders == 0 { TryRecvError::Closed } else { TryRecvError::Empty });
        };
        let next = i.next_sender();
        drop(i);
        if let Some(w) = next {
            w.wake();
        }
        Ok(v)
    }

    pub fn len(&self) -> usize {
        self.0.borrow().queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut i = self.0.borrow_mut();
        i.receiver = false;
        let unread = std::mem::take(&mut i.queue);
        let waiting = i.waiting.take_all();
        drop(i);
        drop(unread);
        waiting.for_each(|w| w.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};
    use std::pin::pin;

    #[test]
    fn full_channel_makes_senders_wait_in_order() {
        run_local(async || {
            let (tx, mut rx) = channel(2);
            for k in 0..10 {
                let tx = tx.clone();
                task::spawn_here("sender", async move { tx.send(k).await.unwrap() });
            }
            drop(tx);
            task::yield_now().await;
            assert_eq!(rx.len(), 2);
            let mut got = vec![];
            while let Some(v) = rx.recv().await {
                got.push(v);
            }
            assert_eq!(got, (0..10).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_dropped_send_passes_its_place_on() {
        run_local(async || {
            let (tx, mut rx) = channel(1);
            tx.try_send(0).unwrap();
            let mut cx = Context::from_waker(Waker::noop());
            let mut second = pin!(tx.send(2));
            {
                let mut first = pin!(tx.send(1));
                assert!(first.as_mut().poll(&mut cx).is_pending());
                assert!(second.as_mut().poll(&mut cx).is_pending());
                assert_eq!(rx.try_recv(), Ok(0)); // promises the place to `first`
                assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)));
            }
            assert!(second.as_mut().poll(&mut cx).is_ready());
            assert_eq!(rx.try_recv(), Ok(2));
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        });
    }

    #[test]
    fn a_gone_receiver_gives_values_back() {
        run_local(async || {
            let (tx, rx) = channel(1);
            tx.try_send(1).unwrap();
            let tx2 = tx.clone();
            let t = task::spawn_here("sender", async move { tx2.send(2).await });
            task::yield_now().await;
            drop(rx);
            assert_eq!(t.await, Err(2));
            assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
            let weak = tx.downgrade();
            drop(tx);
            assert!(weak.upgrade().is_none());
        });
    }
}
