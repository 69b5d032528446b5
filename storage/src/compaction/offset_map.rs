//! The last offset of each key, in memory of a fixed size.
//!
//! Open addressing over slots of 24 bytes: a 128-bit digest of the key and the offset. Two keys with one digest would cost a
//! record, so the digest is keyed with random numbers: nobody can look for such keys. Kafka's `SkimpyOffsetMap` does the same
//! with MD5.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::model::Offset;

/// The digest's halves, and the offset plus one; 0: free.
type Slot = [u64; 3];

/// Bytes of one slot.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();
const SLOTS_MIN: usize = 64;

pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    keys: usize,
    keys_max: usize,
    hashers: [RandomState; 2],
    /// All records before it are in the map.
    next: Offset,
}

impl OffsetMap {
    /// A map that takes up to `keys` keys, in at most `bytes` bytes of which the part `load` (0 to 1) is filled.
    pub(super) fn new(keys: u64, bytes: usize, load: f64) -> OffsetMap {
        let load = load.clamp(0.1, 0.95);
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX);
        // Not more than the keys need, so that a small log costs little.
        let slots =
            ((wanted as f64 / load) as usize).saturating_add(1).clamp(SLOTS_MIN, (bytes / SLOT_BYTES).max(SLOTS_MIN));
        OffsetMap {
            // Zeroed by the system, page by page as it is used.
            slots: vec![[0; 3]; slots],
            keys: 0,
            keys_max: ((slots as f64 * load) as usize).max(1),
            hashers: [RandomState::new(), RandomState::new()],
            next: Offset::ZERO,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }

    /// Records at or behind it were not looked at: they stay.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Notes that everything before `offset` is in the map.
    pub(super) fn advance(&mut self, offset: Offset) {
        self.next = self.next.max(offset);
    }

    /// Puts in the key of a record; false if the map is full.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let digest = self.digest(key);
        let full = self.keys >= self.keys_max;
        let Some(slot) = self.find(digest) else { return false };
        match slot {
            [_, _, 0] if full => return false,
            [_, _, 0] => {
                *slot = [digest[0], digest[1], offset.0 as u64 + 1];
                self.keys += 1;
            }
            [_, _, last] => *last = (offset.0 as u64 + 1).max(*last),
        }
        self.next = self.next.max(offset + 1);
        true
    }

    /// The last offset of the key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let digest = self.digest(key);
        let from = (digest[0] % self.slots.len() as u64) as usize;
        let (front, back) = self.slots.split_at_checked(from)?;
        let found = back.iter().chain(front).find(|s| s[2] == 0 || (s[0], s[1]) == (digest[0], digest[1]))?;
        (found[2] > 0).then(|| Offset(found[2] as i64 - 1))
    }

    fn digest(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The key's slot, or a free one for it.
    fn find(&mut self, digest: [u64; 2]) -> Option<&mut Slot> {
        let from = (digest[0] % self.slots.len() as u64) as usize;
        let (front, back) = self.slots.split_at_mut_checked(from)?;
        back.iter_mut().chain(front).find(|s| s[2] == 0 || (s[0], s[1]) == (digest[0], digest[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_offset_of_each_key_and_says_when_it_is_full() {
        let mut map = OffsetMap::new(u64::MAX, 100 * SLOT_BYTES, 0.9);
        assert_eq!(map.bytes(), 100 * SLOT_BYTES);
        for n in 0..90u64 {
            assert!(map.put(&n.to_be_bytes(), Offset(n as i64)));
        }
        assert!(!map.put(b"one more", Offset(90)));
        assert_eq!(map.next(), Offset(90));
        assert!(map.put(&7u64.to_be_bytes(), Offset(95)), "keys that are in it go on");
        assert_eq!((map.get(&7u64.to_be_bytes()), map.next()), (Some(Offset(95)), Offset(96)));
        for n in (0..90u64).filter(|n| *n != 7) {
            assert_eq!(map.get(&n.to_be_bytes()), Some(Offset(n as i64)));
        }
        assert_eq!(map.get(b"one more"), None);
        map.advance(Offset(200));
        assert_eq!(map.next(), Offset(200));
    }

    #[test]
    fn memory_follows_the_keys_up_to_the_bound() {
        assert!(OffsetMap::new(10, 128 << 20, 0.9).bytes() < 2048);
        assert!(OffsetMap::new(u64::MAX, 1 << 20, 0.9).bytes() <= 1 << 20);
    }
}
