//! Tasks that have had the core for long wait here, and go on one at a time.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

/// One in so many turns is for those behind, however many others wait.
const BEHIND_EVERY: u32 = 4;

/// Those that wait, in two lines, each in the order in which they came. A wait that is dropped gives up its place.
#[derive(Default)]
pub(crate) struct Turns {
    ahead: RefCell<VecDeque<Weak<Place>>>,
    behind: RefCell<VecDeque<Weak<Place>>>,
    count: Cell<u32>,
}

struct Place {
    has_come: Cell<bool>,
    task: RefCell<Waker>,
}

impl Turns {
    /// Completes when its turn has come, whatever else wakes the task.
    pub fn wait(&self, behind: bool) -> impl Future<Output = ()> + '_ {
        let mut place: Option<Rc<Place>> = None;
        poll_fn(move |cx| {
            let Some(place) = &place else {
                let new = Rc::new(Place { has_come: Cell::new(false), task: RefCell::new(cx.waker().clone()) });
                let line = if behind { &self.behind } else { &self.ahead };
                line.borrow_mut().push_back(Rc::downgrade(&new));
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
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        let first = |line: &RefCell<VecDeque<Weak<Place>>>| {
            std::iter::from_fn(|| line.borrow_mut().pop_front()).find_map(|place| place.upgrade())
        };
        let place = match count.is_multiple_of(BEHIND_EVERY) {
            true => first(&self.behind).or_else(|| first(&self.ahead)),
            false => first(&self.ahead).or_else(|| first(&self.behind)),
        }?;
        place.has_come.set(true);
        Some(place.task.borrow().clone())
    }

    pub fn is_empty(&self) -> bool {
        self.ahead.borrow().is_empty() && self.behind.borrow().is_empty()
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
        let (mut first, mut second) = (pin!(turns.wait(false)), pin!(turns.wait(false)));
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
            assert!(!poll(pin!(turns.wait(false))));
        }
        let mut last = pin!(turns.wait(false));
        assert!(!poll(last.as_mut()));
        assert!(turns.next().is_some() && poll(last));
        assert!(turns.is_empty() && turns.next().is_none());
    }

    #[test]
    fn those_behind_let_others_go_first_but_not_for_ever() {
        let turns = Turns::default();
        let mut behind = pin!(turns.wait(true));
        assert!(!poll(behind.as_mut()));
        let mut ahead: Vec<_> = (0..8).map(|_| Box::pin(turns.wait(false))).collect();
        assert!(ahead.iter_mut().all(|wait| !poll(wait.as_mut())));
        assert!(turns.next().is_some() && !poll(behind.as_mut()) && poll(ahead[0].as_mut()));
        (0..3).for_each(|_| drop(turns.next()));
        assert!(poll(behind) && !poll(ahead[7].as_mut()));
    }
}
