//! Deadlines of one shard: exact ones for short waits, 5 ms slots for longer ones.
//!
//! A request's time-out nearly never fires, so the long ones must cost little to set and to drop: one slab entry and a
//! place in the slot's list, both taken back by the drop.

use crate::slab::Slab;
use std::{
    collections::{BTreeMap, btree_map::Entry as MapEntry},
    task::Waker,
};

/// Waits of at least this long go to the slots.
pub(crate) const COARSE_FROM_NS: u64 = 8_000_000;
/// Width of a slot.
pub(crate) const SLOT_NS: u64 = 5_000_000;

struct Entry {
    /// `None` once it has fired.
    waker: Option<Waker>,
    slot: u64,
    place: u32,
}

/// Keys are nanoseconds of CLOCK_MONOTONIC at which a slot is due: multiples of [`SLOT_NS`] for long waits, exact times
/// for short ones. Both kinds share one map.
#[derive(Default)]
pub(crate) struct Timers {
    entries: Slab<Entry>,
    slots: BTreeMap<u64, Vec<u32>>,
    spare: Vec<Vec<u32>>,
}

impl Timers {
    /// Never early; at most one slot late if the wait is a long one.
    pub fn insert(&mut self, now: u64, deadline: u64, waker: Waker) -> u32 {
        let coarse = deadline.saturating_sub(now) >= COARSE_FROM_NS;
        let slot = if coarse { deadline.div_ceil(SLOT_NS).saturating_mul(SLOT_NS) } else { deadline };
        let list = self.slots.entry(slot).or_insert_with(|| self.spare.pop().unwrap_or_default());
        let i = self.entries.insert(Entry { waker: Some(waker), slot, place: list.len() as u32 });
        list.push(i);
        i
    }

    /// True if the timer has fired; otherwise its waker is brought up to date.
    pub fn poll(&mut self, i: u32, waker: &Waker) -> bool {
        match self.entries.get_mut(i).map(|e| &mut e.waker) {
            Some(Some(w)) => {
                w.clone_from(waker);
                false
            }
            _ => true,
        }
    }

    /// Forgets a timer, fired or not.
    pub fn remove(&mut self, i: u32) -> Option<Waker> {
        let entry = self.entries.remove(i)?;
        if entry.waker.is_some()
            && let MapEntry::Occupied(mut slot) = self.slots.entry(entry.slot)
        {
            let list = slot.get_mut();
            list.swap_remove(entry.place as usize);
            if let Some(&moved) = list.get(entry.place as usize) {
                if let Some(m) = self.entries.get_mut(moved) {
                    m.place = entry.place;
                }
            } else if list.is_empty() {
                let list = slot.remove();
                self.keep(list);
            }
        }
        entry.waker
    }

    fn keep(&mut self, list: Vec<u32>) {
        if self.spare.len() < 8 && list.capacity() <= 1024 {
            self.spare.push(list);
        }
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<u64> {
        self.slots.first_key_value().map(|(t, _)| *t)
    }

    /// Takes the wakers of all timers due at `now`.
    pub fn fire(&mut self, now: u64, wake: &mut Vec<Waker>) {
        while let Some(slot) = self.slots.first_entry()
            && *slot.key() <= now
        {
            let mut due = slot.remove();
            for i in due.drain(..) {
                wake.extend(self.entries.get_mut(i).and_then(|e| e.waker.take()));
            }
            self.keep(due);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> Waker {
        Waker::noop().clone()
    }

    #[test]
    fn long_waits_share_slots_and_never_fire_early() {
        let mut t = Timers::default();
        let a = t.insert(0, 20_000_001, waker());
        let b = t.insert(0, 24_999_999, waker());
        let c = t.insert(0, 1_000, waker());
        assert_eq!((t.slots.len(), t.next()), (2, Some(1_000)));
        let mut woken = vec![];
        t.fire(24_999_999, &mut woken);
        assert_eq!(woken.len(), 1);
        assert!(t.poll(c, &waker()) && !t.poll(a, &waker()) && !t.poll(b, &waker()));
        t.fire(25_000_000, &mut woken);
        assert_eq!((woken.len(), t.next()), (3, None));
        for i in [a, b, c] {
            t.remove(i);
        }
        assert_eq!(t.len(), 0);
    }

    #[test]
    fn dropped_timers_leave_nothing_behind() {
        let mut t = Timers::default();
        let ids: Vec<_> = (0..1000u64).map(|k| t.insert(0, 30_000_000 + k % 3 * SLOT_NS, waker())).collect();
        for i in ids.iter().step_by(2).chain(ids.iter().skip(1).step_by(2)) {
            assert!(t.remove(*i).is_some());
        }
        assert_eq!((t.len(), t.slots.len(), t.next()), (0, 0, None));
    }
}
