//! Deadlines without a clock: the caller says what time it is and asks for what is due.
//!
//! A [`Timer`] lives in its owner and is moved by a plain store; the queue holds at most one valid entry for it and looks at
//! the owner when that entry comes up. So a heartbeat, which moves a session's deadline a little every few seconds, touches
//! no queue and allocates nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A deadline that can be moved and taken back. Times are milliseconds of the caller's monotonic clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timer {
    /// When it is due, if it is set.
    due: Option<i64>,
    /// Deadline and number of the queue entry that stands for it.
    entry: Option<(i64, u64)>,
}

impl Timer {
    pub(crate) fn is_set(&self) -> bool {
        self.due.is_some()
    }

    pub(crate) fn cancel(&mut self) {
        self.due = None;
    }

    /// Sets it, or moves it, to `due`; `key` finds the owner again.
    pub(crate) fn set<K>(&mut self, queue: &mut TimerQueue<K>, due: i64, key: impl FnOnce() -> K) {
        self.due = Some(due);
        if self.entry.is_none_or(|(at, _)| at > due) {
            self.entry = Some((due, queue.push(due, key())));
        }
    }

    /// Puts a timer that was out of the queue's reach back into it.
    pub(crate) fn rearm<K>(&mut self, queue: &mut TimerQueue<K>, key: impl FnOnce() -> K) {
        self.entry = None;
        if let Some(due) = self.due {
            self.set(queue, due, key);
        }
    }

    /// Called by the owner when its entry came up. True if the timer is due, which also takes it back; a timer that was moved
    /// meanwhile goes into the queue again.
    pub(crate) fn fire<K>(&mut self, queue: &mut TimerQueue<K>, expired: Expired<K>, now: i64) -> bool {
        if self.entry != Some((expired.at, expired.number)) {
            return false;
        }
        self.entry = None;
        match self.due {
            None => false,
            Some(due) if due > now => {
                self.set(queue, due, || expired.key);
                false
            }
            Some(_) => {
                self.due = None;
                true
            }
        }
    }
}

/// An entry that came up: to be handed to [`Timer::fire`] of the owner that `key` names.
#[derive(Debug)]
pub(crate) struct Expired<K> {
    at: i64,
    number: u64,
    pub(crate) key: K,
}

/// Entries in the order of their deadlines, those of one deadline in the order in which they were made.
#[derive(Debug)]
pub(crate) struct TimerQueue<K> {
    heap: BinaryHeap<Reverse<Entry<K>>>,
    next_number: u64,
}

impl<K> TimerQueue<K> {
    pub(crate) fn new() -> TimerQueue<K> {
        TimerQueue { heap: BinaryHeap::new(), next_number: 0 }
    }

    fn push(&mut self, at: i64, key: K) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.heap.push(Reverse(Entry { at, number, key }));
        number
    }

    /// When to look next: no timer is due before, though none may be due then.
    pub(crate) fn next(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self, now: i64) -> Option<Expired<K>> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| Expired { at: entry.at, number: entry.number, key: entry.key })
    }
}

#[derive(Debug)]
struct Entry<K> {
    at: i64,
    number: u64,
    key: K,
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<K> Eq for Entry<K> {}

impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(queue: &mut TimerQueue<&'static str>, timers: &mut [(&'static str, Timer)], now: i64) -> Vec<&'static str> {
        let mut fired = Vec::new();
        while let Some(expired) = queue.pop(now) {
            let key = expired.key;
            let (_, timer) = timers.iter_mut().find(|(name, _)| *name == key).unwrap();
            if timer.fire(queue, expired, now) {
                fired.push(key);
            }
        }
        fired
    }

    #[test]
    fn a_moved_timer_fires_at_its_new_time_only() {
        let mut queue = TimerQueue::new();
        let mut timers = [("a", Timer::default()), ("b", Timer::default())];
        timers[0].1.set(&mut queue, 10, || "a");
        timers[1].1.set(&mut queue, 12, || "b");
        timers[0].1.set(&mut queue, 30, || "a");
        assert_eq!(due(&mut queue, &mut timers, 12), ["b"]);
        assert_eq!(queue.next(), Some(30));
        timers[0].1.set(&mut queue, 20, || "a");
        assert_eq!(due(&mut queue, &mut timers, 20), ["a"]);
        assert_eq!(due(&mut queue, &mut timers, 100), Vec::<&str>::new());
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_cancelled_timer_never_fires_and_can_be_set_again() {
        let mut queue = TimerQueue::new();
        let mut timers = [("a", Timer::default())];
        timers[0].1.set(&mut queue, 10, || "a");
        timers[0].1.cancel();
        assert_eq!(due(&mut queue, &mut timers, 10), Vec::<&str>::new());
        timers[0].1.set(&mut queue, 15, || "a");
        assert_eq!(due(&mut queue, &mut timers, 14), Vec::<&str>::new());
        assert_eq!(due(&mut queue, &mut timers, 15), ["a"]);
    }

    #[test]
    fn moving_later_many_times_keeps_one_entry() {
        let mut queue = TimerQueue::new();
        let mut timer = Timer::default();
        for at in 1..1000 {
            timer.set(&mut queue, at, || "a");
        }
        assert_eq!(queue.heap.len(), 1);
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set() {
        let mut queue = TimerQueue::new();
        let mut timers = [("a", Timer::default()), ("b", Timer::default()), ("c", Timer::default())];
        for (name, timer) in &mut timers {
            let name = *name;
            timer.set(&mut queue, 5, || name);
        }
        assert_eq!(due(&mut queue, &mut timers, 5), ["a", "b", "c"]);
    }
}
