//! A lock for tasks of one shard; openraft keeps its network factory in one.

use std::cell::{RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::task::{Poll, Waker};

use openraft_rt::{Mutex, OptionalSend};

pub(crate) struct LocalMutex<T> {
    value: RefCell<T>,
    waiters: RefCell<Vec<Waker>>,
}

pub(crate) struct Guard<'a, T> {
    /// `None` only while the guard is being dropped.
    value: Option<RefMut<'a, T>>,
    waiters: &'a RefCell<Vec<Waker>>,
}

impl<T: OptionalSend + 'static> Mutex<T> for LocalMutex<T> {
    type Guard<'a> = Guard<'a, T>;

    fn new(value: T) -> Self {
        LocalMutex { value: RefCell::new(value), waiters: RefCell::default() }
    }

    fn lock(&self) -> impl Future<Output = Guard<'_, T>> {
        poll_fn(move |cx| {
            if let Ok(value) = self.value.try_borrow_mut() {
                return Poll::Ready(Guard { value: Some(value), waiters: &self.waiters });
            }
            let mut waiters = self.waiters.borrow_mut();
            if !waiters.iter().any(|w| w.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("held until the guard is dropped")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("held until the guard is dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        // All of them: a waiter that was dropped meanwhile cannot swallow the only wake-up.
        let waiters = self.waiters.take();
        for waker in waiters {
            waker.wake();
        }
    }
}
