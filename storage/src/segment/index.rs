//! The sparse index of a segment: where to begin looking for an offset, an entry or a time.
//!
//! One entry every `index.interval.bytes`, and one at a batch that is larger than that, thinned out when there are many: however
//! large the segment, the index of an active one stays below 1 MB. Between two entries lie either one large batch, or small
//! ones of two intervals at most; an interval is as configured, or 1/32768 of the largest segment (32 KiB of 1 GiB) if that is
//! more.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

/// Above this every second entry goes and the interval doubles. What the pages of an `.idx` file hold, with one more at the end.
pub(super) const ENTRIES_MAX: usize = 40_799;

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

/// Entries that stand together in a file.
pub(crate) type IndexPage = Rc<[IndexEntry]>;

/// Covers the segment from `from` on; `from` is 0 when it covers all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SparseIndex {
    pub(crate) from: u32,
    entries: Vec<IndexEntry>,
    /// Bytes between entries at least; doubles as the index is thinned out.
    interval: u32,
    /// The batch noted last, entry or not.
    last: Option<IndexEntry>,
}

impl SparseIndex {
    pub(crate) fn new(from: u32) -> SparseIndex {
        SparseIndex { from, entries: Vec::new(), interval: 0, last: None }
    }

    pub(crate) fn from_entries(entries: Vec<IndexEntry>) -> SparseIndex {
        SparseIndex { from: 0, entries, interval: 0, last: None }
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    pub(crate) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
    }

    /// Takes note of a batch at the end of the segment. It becomes an entry if enough bytes lie between it and the last one.
    pub(crate) fn add(&mut self, interval: u32, entry: IndexEntry) {
        let far = |from: u32| entry.position.saturating_sub(from) >= self.interval.max(interval);
        let before = self.last.replace(entry);
        let last = self.entries.last().map_or(self.from, |e| e.position);
        if !far(last) {
            return;
        }
        // Who looks for one of the small batches before a large one does not read that.
        if let Some(large) = before.filter(|b| b.position > last && far(b.position)) {
            self.entries.push(large);
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

    /// As of a segment that ends at `end`: a large batch is an entry there, too.
    pub(crate) fn ended(&self, interval: u32, end: u32) -> SparseIndex {
        let mut index = self.clone();
        let from = index.entries.last().map_or(index.from, |e| e.position);
        let far = |last: &IndexEntry| {
            end.saturating_sub(last.position) >= index.interval.max(interval) && last.position > from
        };
        index.entries.extend(index.last.filter(far));
        index
    }

    /// Forgets what is at or behind `position`, before which the largest timestamp is `latest`: those that come next may be
    /// smaller than what was known of the log as it was.
    pub(crate) fn truncate(&mut self, position: u32, latest: i64) {
        let keep = self.entries.partition_point(|e| e.position < position);
        self.entries.truncate(keep);
        self.entries.iter_mut().for_each(|e| e.max_timestamp = e.max_timestamp.min(latest));
        self.from = self.from.min(position);
        self.last = self.last.filter(|e| e.position < position);
    }

    /// Puts the entries of `before`, which covers up to `self.from`, in front.
    pub(crate) fn prepend(&mut self, before: &SparseIndex) {
        let from = self.from;
        let mut entries: Vec<_> = before.entries.iter().copied().take_while(|e| e.position < from).collect();
        entries.append(&mut self.entries);
        *self =
            SparseIndex { from: before.from, entries, interval: self.interval.max(before.interval), last: self.last };
    }

    /// The last of the leading entries that `holds` is true of, and where the batches of the next one begin.
    pub(crate) fn floor(&self, holds: impl Fn(&IndexEntry) -> bool) -> (Option<&IndexEntry>, Option<u32>) {
        let next = self.entries.partition_point(holds);
        (next.checked_sub(1).and_then(|at| self.entries.get(at)), self.entries.get(next).map(|e| e.position))
    }

    /// The last entry at or before the offset.
    pub(crate) fn floor_offset(&self, offset_delta: u32) -> Option<&IndexEntry> {
        self.before(|e| e.offset_delta <= offset_delta)
    }

    /// The last entry at or before both.
    pub(crate) fn floor_position(&self, position: u32, offset_delta: u32) -> Option<&IndexEntry> {
        self.before(|e| e.position <= position && e.offset_delta <= offset_delta)
    }

    /// The last of the leading entries that `holds` is true of; it must be false of all after the first it is false of.
    fn before(&self, holds: impl Fn(&IndexEntry) -> bool) -> Option<&IndexEntry> {
        self.floor(holds).0
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
        assert_eq!(index.floor(|e| e.ordinal <= 4), (Some(&entry(4)), Some(5000)));
        assert_eq!(index.floor(|e| e.ordinal <= 9), (Some(&entry(9)), None));
        assert_eq!(index.floor_position(99_999, 41), Some(&entry(4)));
        assert_eq!(index.floor_position(2500, 41), Some(&entry(2)));
        index.truncate(4000, 12);
        let last = IndexEntry { max_timestamp: 12, ..entry(3) };
        assert_eq!(index.floor_offset(u32::MAX), Some(&last), "what was known of later times is gone, too");
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
    fn in_a_gibibyte_of_small_batches_entries_lie_close() {
        let mut index = SparseIndex::new(0);
        let batches = (0..1 << 20).map(|n| IndexEntry { position: n * 1024, ..entry(0) });
        batches.for_each(|batch| index.add(4096, batch));
        let index = index.ended(4096, 1 << 30);
        let gaps = index.entries().windows(2).map(|w| w[1].position - w[0].position);
        assert!(gaps.max() <= Some(32 << 10) && index.memory() < 1 << 20, "{} bytes", index.memory());
    }

    #[test]
    fn a_large_batch_is_an_entry_of_its_own() {
        let mut index = SparseIndex::new(0);
        for (n, position) in [100, 400, 1500, 1600, 9000, 9100].into_iter().enumerate() {
            index.add(1000, IndexEntry { position, ..entry(n as u32) });
        }
        let positions: Vec<u32> = index.entries().iter().map(|e| e.position).collect();
        assert_eq!(positions, [400, 1500, 1600, 9000]);
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
