//! Lending what was fetched.

use corelane_protocol::Str;

use super::batch::Batch;
use super::slot::{Lock, RecordState, Slot};
use super::state::{InFlightLimits, SharePartition};

/// ShareFetch v2 (KIP-1206).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireMode {
    /// Whole batches as they lie in the log, and so more records than asked for.
    BatchOptimized,
    /// No more records than asked for.
    RecordLimit,
}

/// Who asks for how much.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub member: &'a str,
    pub mode: AcquireMode,
    pub max_records: i32,
    /// Records that the member would like to have in one range.
    pub batch_size: i32,
}

/// What the log gave for a fetch.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// Where the fetch began.
    pub offset: i64,
    /// First and last offset of each batch, in their order.
    pub batches: &'a [(i64, i64)],
    /// Of those, the ones of transactions that were aborted, where such records are to be left out.
    pub aborted: &'a [(i64, i64)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredRange {
    pub first: i64,
    pub last: i64,
    pub delivery_count: i16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquired {
    pub ranges: Vec<AcquiredRange>,
}

impl Acquired {
    pub fn count(&self) -> i64 {
        self.ranges.iter().map(|range| range.last - range.first + 1).sum()
    }
}

/// One call: what may still be lent.
struct Lending<'a> {
    wanted: Wanted<'a>,
    fetched: Fetched<'a>,
    /// No offset behind this.
    last: i64,
    /// Records in all, and so far.
    most: i64,
    count: i64,
    lock: Lock,
    limits: InFlightLimits,
    ranges: Vec<AcquiredRange>,
}

impl Lending<'_> {
    fn left(&self) -> i64 {
        self.most - self.count
    }

    fn slot(&self, delivery_count: i16) -> Slot {
        Slot { state: RecordState::Acquired, delivery_count, lock: Some(self.lock.clone()), storing: None }
    }
}

/// From this delivery on a record is lent with fewer and fewer others, so that one bad record does not spoil them all.
fn isolation_from(max_delivery_count: i16) -> i16 {
    2.max((max_delivery_count + 1) / 2)
}

impl SharePartition {
    /// Lends what was fetched to a member, and locks it. Ranges come in order; records of one range have been lent equally often.
    pub fn acquire(
        &mut self,
        now_ms: i64,
        wanted: Wanted<'_>,
        fetched: Fetched<'_>,
        limits: &InFlightLimits,
    ) -> Acquired {
        let (Some(&(base, _)), Some(&(_, fetched_last))) = (fetched.batches.first(), fetched.batches.last()) else {
            return Acquired::default();
        };
        if wanted.max_records <= 0 || fetched_last < self.start {
            return Acquired::default();
        }
        let (last, most) = self.bounds(fetched.offset, i64::from(wanted.max_records), fetched_last, limits);
        if most <= 0 {
            return Acquired::default();
        }
        let until_ms = now_ms + limits.lock_ms;
        let lock = Lock { member: Str::from(wanted.member.to_owned()), until_ms };
        let mut lending = Lending { wanted, fetched, last, most, count: 0, lock, limits: *limits, ranges: Vec::new() };
        self.archive_skipped(fetched.offset, base);
        self.lend(base, &mut lending);
        if lending.ranges.is_empty() {
            return Acquired::default();
        }
        self.wake_at(until_ms);
        let ranges = self.without_aborted(lending.ranges, fetched.aborted);
        Acquired { ranges }
    }

    /// Whether the offsets `from .. next` hold as many records that can be lent, and end inside no batch that was lent before.
    pub fn suffices(&self, from: i64, next: i64, records: i32) -> bool {
        if self.batches.range(..next).next_back().is_some_and(|(_, batch)| batch.last >= next) {
            return false;
        }
        let before = self.batches.range(..=from).next_back().map_or(from, |(first, _)| *first);
        let known = self.batches.range(before..next).flat_map(|(first, batch)| batch.within(*first, from, next - 1));
        let held: i64 = known.filter(|(_, _, slot)| !slot.is_free()).map(|(begin, last, _)| last - begin + 1).sum();
        next - from - held >= i64::from(records)
    }

    /// The last offset that may be lent, and how many records: what is in flight has a limit, and only what was lent before may be
    /// lent once it is reached.
    fn bounds(&self, offset: i64, wanted: i64, fetched_last: i64, limits: &InFlightLimits) -> (i64, i64) {
        let most = wanted.min(i64::from(limits.max_records) - self.records_in_flight());
        if most <= 0 && offset <= self.end {
            return (fetched_last.min(self.end), wanted.min(self.end - offset + 1));
        }
        (fetched_last, most)
    }

    /// The log gave nothing between where the fetch began and `base`: compaction took it.
    fn archive_skipped(&mut self, offset: i64, base: i64) {
        if offset < base {
            self.archive(offset, base - 1, RecordState::Available);
        }
    }

    fn lend(&mut self, base: i64, lending: &mut Lending<'_>) {
        let before = self.batches.range(..=base).next_back().map(|(first, batch)| (*first, batch.last));
        let begin = match before {
            None => base.max(self.start),
            Some((first, last)) if last >= base => first,
            Some(_) => base,
        };
        let lowest = begin.min(base);
        let known: Vec<i64> = match lowest <= lending.last {
            true => self.batches.range(lowest..=lending.last).map(|(first, _)| *first).collect(),
            false => return,
        };
        let mut next = begin;
        for first in known {
            if lending.left() <= 0 {
                break;
            }
            if self.open_gaps().is_some() && next < first {
                self.lend_new(next, first - 1, lending);
                if lending.left() <= 0 {
                    break;
                }
            }
            let Some(batch) = self.batches.get(&first) else { continue };
            next = batch.last + 1;
            let isolated = is_to_be_isolated(first, batch, base, lending);
            if isolated && lending.count > 0 {
                lending.most = 0;
                break;
            }
            let lent = self.lend_again(first, base, lending);
            if isolated && lent {
                lending.most = 0;
                break;
            }
        }
        if lending.left() > 0 && next <= lending.last {
            self.lend_new(next, lending.last, lending);
        }
        if let Some(range) = lending.ranges.last() {
            self.pass_gaps(range.last + 1);
        }
    }

    /// Lends what is free of a batch that was lent before.
    fn lend_again(&mut self, first: i64, base: i64, lending: &mut Lending<'_>) -> bool {
        let Some(batch) = self.batches.get(&first) else { return false };
        let size = batch.last - first + 1;
        let max = lending.limits.max_delivery_count;
        let isolation = isolation_from(max);
        let mut window = None;
        let mut lent: Vec<AcquiredRange> = Vec::new();
        let mut count = 0;
        for (from, to, slot) in batch.within(first, base, lending.last).filter(|(_, _, slot)| slot.is_free()) {
            let delivered = slot.delivery_count;
            let is_last_time = max > 2 && delivered == max - 1;
            if is_last_time && count > 0 {
                break;
            }
            if delivered >= isolation && window.is_none() {
                let halvings = u32::try_from(delivered - isolation + 1).unwrap_or(0).min(62);
                window = Some((size >> halvings).max(1));
            }
            let mut most = if is_last_time { 1 } else { to - from + 1 };
            if lending.wanted.mode == AcquireMode::RecordLimit {
                most = most.min(lending.left() - count);
            }
            // A window that was passed before it was known of bounds nothing, as in Kafka.
            if let Some(window) = window.filter(|window| count < *window) {
                most = most.min(window - count);
            }
            let to = from + most - 1;
            count += most;
            let delivery_count = delivered.saturating_add(1);
            match lent.last_mut() {
                Some(range) if range.last + 1 == from && range.delivery_count == delivery_count => range.last = to,
                _ => lent.push(AcquiredRange { first: from, last: to, delivery_count }),
            }
            let is_full = lending.wanted.mode == AcquireMode::RecordLimit && count == lending.left();
            if is_last_time || is_full || window == Some(count) {
                break;
            }
        }
        if let Some(batch) = self.batches.get_mut(&first) {
            for range in &lent {
                let slot = lending.slot(range.delivery_count);
                batch.change(first, range.first, range.last, |_, _, found| *found = slot.clone());
            }
        }
        lending.count += count;
        lending.ranges.append(&mut lent);
        count > 0
    }

    /// Lends what was never lent: whole batches of the log, as far as that is `wanted`.
    fn lend_new(&mut self, first: i64, last: i64, lending: &mut Lending<'_>) {
        // A batch of the log may begin before what is left of it, or before what is done with.
        let first = first.max(if self.batches.is_empty() { self.end } else { self.start });
        let exact = lending.wanted.mode == AcquireMode::RecordLimit;
        let mut end = last;
        if lending.left() < last - first + 1 {
            let wanted = first + lending.left() - 1;
            let whole = lending.fetched.batches.iter().find(|(base, last)| *base <= wanted && wanted <= *last);
            end = whole.map_or(wanted, |(_, last)| *last);
            if self.open_gaps().is_some() {
                end = end.min(last);
            }
        }
        if end < first {
            return;
        }
        let mut begin = first;
        let batch_size = i64::from(lending.wanted.batch_size.max(1));
        if !exact && end - first + 1 > batch_size {
            for (base, _) in lending.fetched.batches.iter().take_while(|(base, _)| *base <= end) {
                if base - begin >= batch_size {
                    self.insert_lent(begin, base - 1, base - 1, lending);
                    begin = *base;
                }
            }
        }
        let lent_last = if exact { end.min(begin + lending.left() - 1) } else { end };
        self.insert_lent(begin, end, lent_last, lending);
        if self.batches.first_key_value().is_some_and(|(known, _)| *known == first) {
            self.start = first;
        }
        self.end = self.end.max(end);
        lending.count += lent_last - first + 1;
        self.pass_gaps(lent_last + 1);
    }

    /// A new batch, of which the offsets up to `lent_last` are lent and the others free.
    fn insert_lent(&mut self, first: i64, last: i64, lent_last: i64, lending: &mut Lending<'_>) {
        let mut batch = Batch::new(last, Slot::new(RecordState::Available, 0));
        let slot = lending.slot(1);
        batch.change(first, first, lent_last, |_, _, found| *found = slot.clone());
        self.look_back |= lent_last < last;
        self.batches.insert(first, batch);
        lending.ranges.push(AcquiredRange { first, last: lent_last, delivery_count: 1 });
    }

    /// Takes back and gives up what aborted transactions wrote.
    fn without_aborted(&mut self, ranges: Vec<AcquiredRange>, aborted: &[(i64, i64)]) -> Vec<AcquiredRange> {
        let mut kept = ranges;
        for (first, last) in aborted {
            self.archive(*first, *last, RecordState::Acquired);
            let around = |range: AcquiredRange| {
                let before = AcquiredRange { last: range.last.min(first - 1), ..range };
                let after = AcquiredRange { first: range.first.max(last + 1), ..range };
                [before, after].into_iter().filter(|part| part.first <= part.last)
            };
            kept = kept.into_iter().flat_map(around).collect();
        }
        kept
    }
}

/// Whether something free in there was lent so often that it goes with fewer others now.
fn is_to_be_isolated(first: i64, batch: &Batch, base: i64, lending: &Lending<'_>) -> bool {
    let free = batch.within(first, base, lending.last).filter(|(_, _, slot)| slot.is_free());
    let most = free.map(|(_, _, slot)| slot.delivery_count).max();
    most.is_some_and(|most| most >= isolation_from(lending.limits.max_delivery_count))
}
