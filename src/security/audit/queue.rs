//! What waits to be written to the audit's topic: bounded, whatever clients do. What is said again the same way is counted, what there
//! is no room for is counted too. Each kind of events has room of its own: who floods the broker with what it refuses hides no change.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use core_pinning::sync::Signal;
use core_pinning::time::{Instant, now, timeout};
use hashbrown::HashMap;

use super::event::{Event, KINDS, Seen};

pub struct EventQueue {
    /// Bytes of the events of one kind.
    room: usize,
    waiting: RefCell<Waiting>,
    come: Signal,
    ending: Signal,
    ended: Cell<Option<Instant>>,
}

#[derive(Default)]
pub struct Waiting {
    /// With the place of each in the order in which they were first seen.
    events: HashMap<Event, (usize, Seen)>,
    bytes: [usize; KINDS],
    /// Those that there was no room for.
    pub left_out: u64,
}

impl Waiting {
    /// In the order in which they were first seen.
    pub fn in_order(self) -> Vec<(Event, Seen)> {
        let mut events: Vec<_> = self.events.into_iter().collect();
        events.sort_unstable_by_key(|(_, (place, _))| *place);
        events.into_iter().map(|(event, (_, seen))| (event, seen)).collect()
    }
}

impl EventQueue {
    /// `memory`: bytes for what waits, as much again that has been taken, and a batch of it that is being written.
    pub fn new(memory: usize) -> EventQueue {
        EventQueue {
            room: memory / (2 * KINDS + 2),
            waiting: RefCell::default(),
            come: Signal::default(),
            ending: Signal::default(),
            ended: Cell::default(),
        }
    }

    /// Bytes of the events of one kind, and of a batch of them.
    pub fn room(&self) -> usize {
        self.room
    }

    pub fn push(&self, event: Event, now_ms: i64, port: u16) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some((_, seen)) = waiting.events.get_mut(&event) {
            (seen.last_ms, seen.count) = (now_ms, seen.count.saturating_add(1));
            return;
        }
        let (size, kind) = (event.size(), event.kind());
        if waiting.bytes[kind] + size > self.room {
            waiting.left_out += 1;
        } else {
            waiting.bytes[kind] += size;
            let place = waiting.events.len();
            waiting.events.insert(event, (place, Seen { first_ms: now_ms, last_ms: now_ms, count: 1, port }));
        }
        self.come.notify();
    }

    /// Waits until there is something, or the end.
    pub async fn come(&self) {
        self.come.wait().await;
    }

    pub fn take(&self) -> Waiting {
        self.waiting.take()
    }

    /// Nothing comes any more.
    pub fn end(&self) {
        self.ended.set(Some(now()));
        self.come.notify();
        self.ending.notify();
    }

    /// Since when nothing comes any more.
    pub fn ended(&self) -> Option<Instant> {
        self.ended.get()
    }

    /// Waits so long, or until the end.
    pub async fn pause(&self, duration: Duration) {
        if self.ended().is_none() {
            let _ = timeout(duration, self.ending.wait()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::audit::event::What;

    const MEMORY: usize = 1 << 20;

    fn event(name: &str) -> Event {
        let resource = ("Topic".to_owned(), name.to_owned());
        let what = What::Refused { api: "Fetch", operation: "Read".to_owned(), resource };
        Event { user: None, ip: [127, 0, 0, 1].into(), client_id: None, what }
    }

    #[test]
    fn what_is_said_again_is_counted() {
        let queue = EventQueue::new(MEMORY);
        for (ms, name) in [(10, "b"), (10, "a"), (12, "b"), (15, "b")] {
            queue.push(event(name), ms, 1);
        }
        let events = queue.take().in_order();
        let seen = |first_ms, last_ms, count| Seen { first_ms, last_ms, count, port: 1 };
        assert_eq!(events, [(event("b"), seen(10, 15, 3)), (event("a"), seen(10, 10, 1))]);
        assert!(queue.take().in_order().is_empty());
    }

    #[test]
    fn a_flood_takes_a_bounded_room_and_what_is_left_out_is_counted() {
        let queue = EventQueue::new(MEMORY);
        const MANY: u64 = 10_000;
        (0..MANY).for_each(|i| queue.push(event(&i.to_string()), i as i64, 1));
        queue.push(event("7"), MANY as i64, 1);
        let what = What::Administrative { api: "DeleteTopics", resources: Vec::new(), outcome: "done".to_owned() };
        let change = Event { what, ..event("") };
        queue.push(change.clone(), MANY as i64, 1);
        let waiting = queue.take();
        assert!(waiting.bytes.iter().sum::<usize>() <= MEMORY && waiting.left_out > 0);
        assert_eq!(waiting.events.len() as u64 + waiting.left_out, MANY + 1);
        assert_eq!(waiting.events[&event("7")].1.count, 2, "what is there already needs no room");
        assert!(waiting.events.contains_key(&change), "a flood of refusals leaves room for changes");
        assert_eq!(queue.take().left_out, 0);
    }
}
