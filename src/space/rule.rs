//! The rule of a disk that fills.
//!
//! Free is what the file system has left, less what has been accepted and is not in its segments yet, less what is missing of
//! the reserve. Two marks divide it; a level is left again only when an eighth of its mark more is free.
//!
//! | free                                            | level     | what follows                                             |
//! |-------------------------------------------------|-----------|----------------------------------------------------------|
//! | at least `storage.near.full.free.bytes`         | enough    | nothing                                                  |
//! | below it                                        | near full | deleted segments go without their delay; spare journal   |
//! |                                                 |           | files go; retention is applied at once; then brought     |
//! |                                                 |           | forward (`forward`), until there is enough               |
//! | below `storage.min.free.bytes`, or a shard's    | full      | as near full; and clients may neither produce nor create |
//! | store was refused space                         |           | topics or partitions. All else goes on                   |
//!
//! When a store was refused space, the reserve is given back too. It is made again as soon as it fits above
//! `storage.min.free.bytes`. All of this is looked at every second, and earlier when much is written.

use corelane_config::SpaceSettings;

/// How the disk stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Enough,
    NearFull,
    Full,
}

/// In bytes; 0: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub min_free: u64,
    pub near_full: u64,
    pub reserve: u64,
}

/// What a large disk needs no more of.
const MIN_FREE_MAX: u64 = 2 << 30;
/// Two journal files: a shard may want one at any time.
const MIN_FREE_PER_SHARD: u64 = 128 << 20;
/// A journal file, and something for segments, states and metadata.
const RESERVE_PER_SHARD: u64 = 80 << 20;

impl Marks {
    /// `total`: the size of the disk.
    pub fn new(settings: &SpaceSettings, total: u64, shards: usize) -> Marks {
        let shards = shards as u64;
        let min_free = (total / 20).min(MIN_FREE_MAX).max((shards * MIN_FREE_PER_SHARD).min(total / 8));
        let min_free = settings.min_free_bytes.unwrap_or(min_free);
        Marks {
            min_free,
            near_full: settings.near_full_free_bytes.unwrap_or(2 * min_free),
            reserve: settings.reserve_bytes.unwrap_or((shards * RESERVE_PER_SHARD).min(total / 50)),
        }
    }

    pub fn level(&self, seen: &Seen, before: Level) -> Level {
        let free = seen.free();
        let below = |mark: u64, level: Level| free < if before >= level { back_at(mark) } else { mark };
        if seen.refused || below(self.min_free, Level::Full) {
            Level::Full
        } else if below(self.near_full, Level::NearFull) {
            Level::NearFull
        } else {
            Level::Enough
        }
    }

    /// Bytes that have to go until there is enough again.
    pub fn excess(&self, seen: &Seen) -> u64 {
        back_at(self.near_full).saturating_sub(seen.free())
    }

    /// Bytes that all shards together may take until the next mark below `level`.
    pub fn room(&self, seen: &Seen, level: Level) -> u64 {
        let mark = if level == Level::Enough { self.near_full.max(self.min_free) } else { self.min_free };
        seen.free().saturating_sub(mark)
    }
}

fn back_at(mark: u64) -> u64 {
    mark.saturating_add(mark / 8)
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes that the file system gives.
    pub available: u64,
    /// Bytes accepted and not in their segments.
    pub unwritten: u64,
    /// Bytes missing of the reserve.
    pub missing: u64,
    /// A shard's store was refused space.
    pub refused: bool,
}

impl Seen {
    pub fn free(&self) -> u64 {
        self.available.saturating_sub(self.unwritten).saturating_sub(self.missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { min_free: 800, near_full: 1600, reserve: 100 };

    fn seen(available: u64) -> Seen {
        Seen { available, ..Seen::default() }
    }

    #[test]
    fn levels_follow_the_marks_and_are_left_a_little_later() {
        use Level::*;
        for (available, before, level) in [
            (1600, Enough, Enough),
            (1599, Enough, NearFull),
            (1799, NearFull, NearFull),
            (1800, NearFull, Enough),
            (800, Enough, NearFull),
            (799, Enough, Full),
            (799, NearFull, Full),
            (899, Full, Full),
            (900, Full, NearFull),
            (1700, Full, NearFull),
            (1800, Full, Enough),
            (0, Full, Full),
        ] {
            assert_eq!(MARKS.level(&seen(available), before), level, "{available} after {before:?}");
        }
    }

    #[test]
    fn what_is_not_written_and_what_the_reserve_lacks_is_not_free() {
        assert_eq!(MARKS.level(&Seen { unwritten: 500, ..seen(1299) }, Level::Enough), Level::Full);
        assert_eq!(MARKS.level(&Seen { missing: 100, ..seen(899) }, Level::Enough), Level::Full);
        assert_eq!(MARKS.level(&Seen { refused: true, ..seen(1 << 40) }, Level::Enough), Level::Full);
        assert_eq!(MARKS.excess(&seen(1500)), 300);
        assert_eq!(MARKS.room(&seen(1700), Level::Enough), 100);
        assert_eq!(MARKS.room(&seen(1000), Level::NearFull), 200);
    }

    #[test]
    fn marks_of_zero_leave_only_the_disk_itself() {
        let off = Marks { min_free: 0, near_full: 0, reserve: 0 };
        assert_eq!(off.level(&seen(0), Level::Enough), Level::Enough);
        let full = off.level(&Seen { refused: true, ..seen(0) }, Level::Enough);
        assert_eq!(full, Level::Full);
        assert_eq!(off.level(&seen(0), full), Level::Enough);
        assert_eq!(off.excess(&seen(0)), 0);
    }

    #[test]
    fn defaults_follow_the_size_of_the_disk() {
        let unset = SpaceSettings {
            min_free_bytes: None,
            near_full_free_bytes: None,
            min_retention_ms: 0,
            reserve_bytes: None,
        };
        let small = Marks::new(&unset, 1000 << 20, 2);
        assert_eq!(small, Marks { min_free: 125 << 20, near_full: 250 << 20, reserve: 20 << 20 });
        let large = Marks::new(&unset, 10 << 40, 2);
        assert_eq!(large, Marks { min_free: 2 << 30, near_full: 4 << 30, reserve: 160 << 20 });
    }
}
