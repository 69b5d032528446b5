//! Where to fetch next, and how the start moves.

use super::slot::RecordState;
use super::state::{Gaps, InFlightLimits, SharePartition};

impl SharePartition {
    /// Where a fetch goes on: at the first free record, else behind what was ever lent.
    pub fn next_fetch_offset(&mut self) -> i64 {
        if self.is_empty_or_passed() {
            self.look_back = false;
            return self.end;
        }
        if self.look_back {
            if let Some(offset) = self.first_to_fetch() {
                return offset;
            }
            self.look_back = false;
        }
        self.end + 1
    }

    fn first_to_fetch(&self) -> Option<i64> {
        let mut missing = self.open_gaps().map(|gaps| gaps.next.max(self.start));
        for (first, batch) in &self.batches {
            if let Some(next) = &mut missing {
                if first > next {
                    return Some(*next);
                }
                *next = (batch.last + 1).max(*next);
            }
            if let Some((offset, ..)) = batch.runs(*first).find(|(_, _, slot)| slot.is_free()) {
                return Some(offset);
            }
        }
        None
    }

    /// Whether a fetch could lend anything, were it there.
    pub fn can_acquire(&mut self, limits: &InFlightLimits) -> bool {
        self.next_fetch_offset() != self.end + 1 || self.records_in_flight() < i64::from(limits.max_records)
    }

    pub(super) fn records_in_flight(&self) -> i64 {
        if self.batches.is_empty() { 0 } else { self.end - self.start + 1 }
    }

    fn is_empty_or_passed(&self) -> bool {
        self.batches.last_key_value().is_none_or(|(_, batch)| self.start > batch.last)
    }

    pub(super) fn open_gaps(&self) -> Option<Gaps> {
        self.gaps.filter(|gaps| gaps.end == self.end)
    }

    /// Everything before `next` has been looked for.
    pub(super) fn pass_gaps(&mut self, next: i64) {
        self.gaps =
            self.open_gaps().filter(|gaps| next <= gaps.end).map(|gaps| Gaps { next: next.max(gaps.next), ..gaps });
    }

    /// The log begins at `log_start`: what is gone is done with. True if there is something else to fetch now.
    pub fn log_start_moved(&mut self, log_start: i64) -> bool {
        if log_start <= self.start {
            return false;
        }
        if self.batches.is_empty() {
            (self.start, self.end) = (log_start, log_start);
            return true;
        }
        self.archive(self.start, log_start - 1, RecordState::Available);
        self.start = log_start;
        self.gaps = self.open_gaps().map(|gaps| Gaps { next: gaps.next.max(log_start), ..gaps });
        self.end = self.end.max(self.start);
        true
    }

    /// Gives up the offsets `from ..= to` that are in this state. What is lent ends with its lock or acknowledgement.
    pub(super) fn archive(&mut self, from: i64, to: i64, state: RecordState) {
        let mut archived = false;
        for (first, batch) in self.batches.range_mut(..=to).filter(|(_, batch)| batch.last >= from) {
            batch.change(*first, from, to, |_, _, slot| {
                if slot.state == state {
                    slot.archive();
                    archived = true;
                }
            });
        }
        self.look_back |= archived;
    }

    /// Moves the start over what is settled, and forgets the batches before it. True if it has moved.
    pub(super) fn move_start(&mut self) -> bool {
        let at_start = self.batches.range(..=self.start).next_back();
        let settled = at_start.and_then(|(first, batch)| {
            let offset = self.start.min(batch.last);
            batch.within(*first, offset, offset).next().map(|(_, _, slot)| slot.is_settled())
        });
        let Some(last) = self.last_settled().filter(|_| settled == Some(true)) else { return false };
        let Some((batch_first, batch_last)) = self.batches.range(..=last).next_back().map(|(f, b)| (*f, b.last)) else {
            return false;
        };
        let following = self.batches.range(last.saturating_add(1)..).next().map(|(first, _)| *first);
        match following {
            None if last == batch_last => {
                self.start = self.start.max(last + 1);
                self.end = self.start;
                self.batches.clear();
                return true;
            }
            Some(next) if last == batch_last => {
                let missing = self.open_gaps().map(|gaps| gaps.next.max(last + 1)).filter(|missing| *missing < next);
                self.start = self.start.max(missing.unwrap_or(next));
                self.batches = self.batches.split_off(&next);
            }
            _ => {
                self.start = self.start.max(last + 1);
                self.batches = self.batches.split_off(&batch_first);
            }
        }
        true
    }

    /// The last offset up to which all is settled.
    fn last_settled(&self) -> Option<i64> {
        let mut last = None;
        let mut missing = self.open_gaps().map(|gaps| gaps.next);
        for (first, batch) in &self.batches {
            if let Some(next) = &mut missing {
                if first > next {
                    return last;
                }
                *next = (batch.last + 1).max(*next);
            }
            for (_, run_last, slot) in batch.runs(*first) {
                // What the log does not have any more holds nothing up, even if it is lent.
                if run_last >= self.start && !slot.is_settled() {
                    return last;
                }
                last = Some(run_last);
            }
        }
        last
    }
}
