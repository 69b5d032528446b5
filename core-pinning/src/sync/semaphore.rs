//! Counted units, first come first served.

use super::Waiters;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Units are granted in the order of the calls: a large request at the head holds up smaller ones behind it.
pub struct Semaphore {
    free: Cell<usize>,
    waiters: RefCell<Waiters<usize>>,
}

impl Semaphore {
    pub fn new(units: usize) -> Semaphore {
        Semaphore { free: Cell::new(units), waiters: RefCell::new(Waiters::new()) }
    }

    pub fn available(&self) -> usize {
        self.free.get()
    }

    /// Tasks in the queue.
    pub fn waiting(&self) -> usize {
        self.waiters.borrow().len()
    }

    /// Fails if there are too few units or others wait already.
    pub fn try_acquire(&self, units: usize) -> Option<Permit<'_>> {
        if self.waiters.borrow().is_empty() && self.try_take(units) { Some(Permit { of: self, units }) } else { None }
    }

    /// Waits for `units`. More than the semaphore will ever have waits for ever.
    pub fn acquire(&self, units: usize) -> Acquire<'_> {
        Acquire { of: self, units, ticket: None }
    }

    /// Adds units for good, or gives back those of a forgotten permit.
    pub fn release(&self, units: usize) {
        self.free.set(self.free.get() + units);
        self.grant();
    }

    fn try_take(&self, units: usize) -> bool {
        let free = self.free.get();
        if free >= units {
            self.free.set(free - units);
        }
        free >= units
    }

    /// Hands units to the head of the queue for as long as they suffice; who left the queue owns its units.
    fn grant(&self) {
        loop {
            let mut ws = self.waiters.borrow_mut();
            match ws.front() {
                Some(&units) if self.try_take(units) => {
                    let woken = ws.pop();
                    drop(ws);
                    if let Some((w, _)) = woken {
                        w.wake();
                    }
                }
                _ => return,
            }
        }
    }
}

/// The wait for [`Semaphore::acquire`].
pub struct Acquire<'a> {
    of: &'a Semaphore,
    units: usize,
    ticket: Option<u64>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Permit<'a>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit<'a>> {
        let (of, units) = (self.of, self.units);
        let mut ws = of.waiters.borrow_mut();
        match self.ticket {
            Some(t) if ws.update(t, cx.waker()) => return Poll::Pending,
            Some(_) => {} // granted
            None if ws.is_empty() && of.try_take(units) => {}
            None => {
                self.ticket = Some(ws.push(cx.waker(), units));
                return Poll::Pending;
            }
        }
        self.ticket = None;
        Poll::Ready(Permit { of, units })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(t) = self.ticket else { return };
        if self.of.waiters.borrow_mut().remove(t) {
            self.of.grant(); // it may have been a large request that held up others
        } else {
            self.of.release(self.units); // granted, but nobody is left to use it
        }
    }
}

/// Held units; dropping gives them back.
pub struct Permit<'a> {
    of: &'a Semaphore,
    units: usize,
}

impl Permit<'_> {
    pub fn units(&self) -> usize {
        self.units
    }

    /// Keeps the units out until [`Semaphore::release`].
    pub fn forget(mut self) {
        self.units = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.units > 0 {
            self.of.release(self.units);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{pin::pin, task::Waker};

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn units_are_granted_in_order() {
        let s = Semaphore::new(3);
        let held = s.try_acquire(2).unwrap();
        let (mut big, mut small) = (pin!(s.acquire(3)), pin!(s.acquire(1)));
        assert!(big.as_mut().poll(&mut cx()).is_pending());
        assert!(small.as_mut().poll(&mut cx()).is_pending(), "overtook the head of the queue");
        assert!(s.try_acquire(1).is_none());
        drop(held);
        let Poll::Ready(p) = big.as_mut().poll(&mut cx()) else { panic!("not granted") };
        assert!(small.as_mut().poll(&mut cx()).is_pending());
        drop(p);
        assert!(small.as_mut().poll(&mut cx()).is_ready());
        assert_eq!((s.available(), s.waiting()), (3, 0));
    }

    #[test]
    fn a_dropped_wait_lets_the_next_one_through() {
        let s = Semaphore::new(1);
        {
            let mut small = pin!(s.acquire(1));
            {
                let mut big = pin!(s.acquire(2));
                assert!(big.as_mut().poll(&mut cx()).is_pending());
                assert!(small.as_mut().poll(&mut cx()).is_pending());
            }
            assert!(small.as_mut().poll(&mut cx()).is_ready());
        }
        assert_eq!(s.available(), 1);
    }

    #[test]
    fn units_granted_to_a_dropped_wait_come_back() {
        let s = Semaphore::new(1);
        let held = s.try_acquire(1).unwrap();
        {
            let mut w = pin!(s.acquire(1));
            assert!(w.as_mut().poll(&mut cx()).is_pending());
            drop(held);
            assert_eq!(s.available(), 0);
        }
        assert_eq!(s.available(), 1);
    }
}
