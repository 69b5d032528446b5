//! The sparse index of a segment: where to begin looking for an offset, an entry or a time.
//!
//! One entry every `index.interval.bytes`, thinned out when there are many: however large the segment, the index of an active
//! one stays below 400 KB, and a look-up ends with a walk over at most 1/16384 of the segment or one interval.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

/// Above this every second entry goes and the interval doubles.
const ENTRIES_MAX: usize = 16 << 10;

/// A batch that a walk may begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    /// Base offset of the batch minus that of the segment.
    pub(crate) offset_delta: u32,
    pub(crate) position: u32,
    /// Entries of the Raft log before the batch in its segment.
    pub(crate) ordinal: u32,
    /// Largest timestamp of the segment before the batch; `i64::MIN` if there is none.
    pub(crate) max_timestamp: i64,
}

/// Covers the segment from `from` on; `from` is 0 when it covers all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SparseIndex {
    pub(crate) from: u32,
    entries: Vec<IndexEntry>,
    /// Bytes between entries at least; doubles as the index is thinned out.
    interval: u32,
}

impl SparseIndex {
    pub(crate) fn new(from: u32) -> SparseIndex {
        SparseIndex { from, entries: Vec::new(), interval: 0 }
    }

    pub(crate) fn from_entries(entries: Vec<IndexEntry>) -> SparseIndex {
        SparseIndex { from: 0, entries, interval: 0 }
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    pub(crate) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
    }

    /// Takes note of a batch at the end of the segment, if enough bytes lie between it and the last entry.
    pub(crate) fn add(&mut self, interval: u32, entry: IndexEntry) {
        let last = self.entries.last().map_or(self.from, |e| e.position);
        if entry.position.saturating_sub(last) < self.interval.max(interval) {
            return;
        }
        self.entries.push(entry);
        if self.entries.len() > ENTRIES_MAX {
            let mut at = 0;
            self.entries.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            self.entries.shrink_to(ENTRIES_MAX / 2);
            self.interval = 2 * self.interval.max(interval);
        }
    }

    /// Forgets what is at or behind `position`.
    pub(crate) fn truncate(&mut self, position: u32) {
        let keep = self.entries.partition_point(|e| e.position < position);
        self.entries.truncate(keep);
        self.from = self.from.min(position);
    }

    /// Puts the entries of `before`, which covers up to `self.from`, in front.
    pub(crate) fn prepend(&mut self, before: &SparseIndex) {
        let from = self.from;
        let mut entries: Vec<_> = before.entries.iter().copied().take_while(|e| e.position < from).collect();
        entries.append(&mut self.entries);
        *self = SparseIndex { from: before.from, entries, interval: self.interval.max(before.interval) };
    }

    /// The last entry at or before the offset.
    pub(crate) fn floor_offset(&self, offset_delta: u32) -> Option<&IndexEntry> {
        self.before(|e| e.offset_delta <= offset_delta)
    }

    pub(crate) fn floor_ordinal(&self, ordinal: u32) -> Option<&IndexEntry> {
        self.before(|e| e.ordinal <= ordinal)
    }

    /// The last entry at or before both.
    pub(crate) fn floor_position(&self, position: u32, offset_delta: u32) -> Option<&IndexEntry> {
        self.before(|e| e.position <= position && e.offset_delta <= offset_delta)
    }

    /// The last entry with only earlier times before it: a walk from there finds the first record at or after `timestamp`.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> Option<&IndexEntry> {
        self.before(|e| e.max_timestamp < timestamp)
    }

    /// The last of the leading entries that `holds` is true of; it must be false of all after the first it is false of.
    fn before(&self, holds: impl Fn(&IndexEntry) -> bool) -> Option<&IndexEntry> {
        self.entries.get(self.entries.partition_point(holds).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32) -> IndexEntry {
        IndexEntry { offset_delta: n * 10, position: n * 1000, ordinal: n, max_timestamp: i64::from(n) * 5 }
    }

    #[test]
    fn floors() {
        let mut index = SparseIndex::new(0);
        (1..=9).for_each(|n| index.add(1000, entry(n)));
        assert_eq!(index.floor_offset(9), None);
        assert_eq!(index.floor_offset(35), Some(&entry(3)));
        assert_eq!(index.floor_ordinal(4), Some(&entry(4)));
        assert_eq!(index.floor_position(99_999, 41), Some(&entry(4)));
        assert_eq!(index.floor_position(2500, 41), Some(&entry(2)));
        assert_eq!(index.floor_timestamp(15), Some(&entry(2)), "before the third lies a 15 already");
        index.truncate(4000);
        assert_eq!(index.floor_offset(u32::MAX), Some(&entry(3)));
    }

    #[test]
    fn a_long_index_is_thinned_out() {
        let mut index = SparseIndex::new(0);
        (1..=100_000).for_each(|n| index.add(1000, entry(n)));
        assert!(index.entries().len() <= ENTRIES_MAX && index.entries().len() > ENTRIES_MAX / 4);
        let gaps = index.entries().windows(2).map(|w| w[1].position - w[0].position);
        assert!(gaps.clone().all(|gap| gap == gaps.clone().next().unwrap()), "evenly");
    }

    #[test]
    fn parts_join() {
        let (mut first, mut second) = (SparseIndex::new(0), SparseIndex::new(4000));
        (1..=5).for_each(|n| first.add(1000, entry(n)));
        (5..=9).for_each(|n| second.add(1000, entry(n)));
        second.prepend(&first);
        let positions: Vec<u32> = second.entries().iter().map(|e| e.position).collect();
        assert_eq!((second.from, positions), (0, vec![1000, 2000, 3000, 5000, 6000, 7000, 8000, 9000]));
    }
}
