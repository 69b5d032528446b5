//! Tasks that have had the core for long wait here, and go on one at a time.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

/// Those that wait, in the order in which they came. A wait that is dropped gives up its place.
#[derive(Default)]
pub(crate) struct Turns(RefCell<VecDeque<Weak<Place>>>);

struct Place {
    has_come: Cell<bool>,
    task: RefCell<Waker>,
}

impl Turns {
    /// Completes when its turn has come, whatever else wakes the task.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        let mut place: Option<Rc<Place>> = None;
        poll_fn(move |cx| {
            let Some(place) = &place else {
                let new = Rc::new(Place { has_come: Cell::new(false), task: RefCell::new(cx.waker().clone()) });
                self.0.borrow_mut().push_back(Rc::downgrade(&new));
                place = Some(new);
                return Poll::Pending;
            };
            if place.has_come.get() {
                return Poll::Ready(());
            }
            place.task.borrow_mut().clone_from(cx.waker());
            Poll::Pending
        })
    }

    /// Whose turn it is: to be woken.
    pub fn next(&self) -> Option<Waker> {
        let mut waiting = self.0.borrow_mut();
        let place = std::iter::from_fn(|| waiting.pop_front()).find_map(|place| place.upgrade())?;
        place.has_come.set(true);
        Some(place.task.borrow().clone())
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{pin::pin, task::Context};

    fn poll(wait: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        wait.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn whatever_wakes_it_a_task_waits_for_its_turn() {
        let turns = Turns::default();
        let (mut first, mut second) = (pin!(turns.wait()), pin!(turns.wait()));
        for _ in 0..3 {
            assert!(!poll(first.as_mut()) && !poll(second.as_mut()));
        }
        assert!(turns.next().is_some());
        assert!(!poll(second.as_mut()) && poll(first.as_mut()));
        assert!(turns.next().is_some() && turns.is_empty());
        assert!(poll(second.as_mut()));
    }

    #[test]
    fn who_waits_no_more_has_no_turn() {
        let turns = Turns::default();
        for _ in 0..1000 {
            assert!(!poll(pin!(turns.wait())));
        }
        let mut last = pin!(turns.wait());
        assert!(!poll(last.as_mut()));
        assert!(turns.next().is_some() && poll(last));
        assert!(turns.is_empty() && turns.next().is_none());
    }
}
