//! What members say of the records that they were lent, and what happens when they say nothing.

use corelane_protocol::ErrorCode;

use super::slot::{Lock, RecordState, Slot};
use super::state::{InFlightLimits, SharePartition, StoreId, ToStore};
use crate::share::batches::StateBatch;

/// Kafka's `AcknowledgeType`, and the gap that clients report in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgeType {
    /// There is no record at this offset.
    Gap = 0,
    Accept = 1,
    Release = 2,
    Reject = 3,
    /// Lent for longer (KIP-1222).
    Renew = 4,
}

impl AcknowledgeType {
    pub fn from_id(id: i8) -> Option<AcknowledgeType> {
        Some(match id {
            0 => AcknowledgeType::Gap,
            1 => AcknowledgeType::Accept,
            2 => AcknowledgeType::Release,
            3 => AcknowledgeType::Reject,
            4 => AcknowledgeType::Renew,
            _ => return None,
        })
    }
}

/// What a member says of the offsets `first ..= last`: one type for all of them, or one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub first: i64,
    pub last: i64,
    pub types: Vec<i8>,
}

impl Acknowledgement {
    /// Runs of offsets of one type, from `start` on.
    fn runs(&self, start: i64) -> Result<Vec<(i64, i64, AcknowledgeType)>, ErrorCode> {
        let count = self.last.checked_sub(self.first).and_then(|more| usize::try_from(more).ok());
        let whole = self.types.len() == 1;
        if !whole && count.and_then(|more| more.checked_add(1)) != Some(self.types.len()) {
            return Err(ErrorCode::InvalidRequest);
        }
        let mut runs: Vec<(i64, i64, AcknowledgeType)> = Vec::new();
        for (offset, id) in (self.first..=self.last).zip(&self.types) {
            let kind = AcknowledgeType::from_id(*id).ok_or(ErrorCode::InvalidRequest)?;
            let last = if whole { self.last } else { offset };
            match runs.last_mut() {
                Some((_, known, before)) if *before == kind => *known = last,
                _ => runs.push((offset, last, kind)),
            }
        }
        let from_start = runs.into_iter().filter(|(_, last, _)| *last >= start);
        Ok(from_start.map(|(first, last, kind)| (first.max(start), last, kind)).collect())
    }
}

/// What comes of one message.
struct Taken {
    id: StoreId,
    /// When locks end that are renewed.
    until_ms: i64,
    changed: Vec<StateBatch>,
}

impl SharePartition {
    /// Takes what a member says: all of it or nothing, but that, as in Kafka, locks are renewed up to what cannot be. The answer
    /// waits for what is to be stored, if anything is. Errors: INVALID_REQUEST, INVALID_RECORD_STATE.
    pub fn acknowledge(
        &mut self,
        now_ms: i64,
        member: &str,
        acknowledgements: &[Acknowledgement],
        limits: &InFlightLimits,
    ) -> Result<Option<ToStore>, ErrorCode> {
        let mut taken = Taken { id: self.new_store(), until_ms: now_ms + limits.lock_ms, changed: Vec::new() };
        for acknowledgement in acknowledgements {
            if let Err(error) = self.take(member, acknowledgement, limits, &mut taken) {
                self.finish_storing(taken.id, false, now_ms, limits);
                return Err(error);
            }
        }
        Ok(self.to_store(taken.id, taken.changed))
    }

    /// Renews the locks of these offsets, up to the first that the member does not have.
    fn renew(&mut self, member: &str, until_ms: i64, from: i64, to: i64) -> Result<(), ErrorCode> {
        let mut lent = true;
        for (first, batch) in self.batches.range_mut(..=to).filter(|(_, batch)| batch.last >= from) {
            batch.change(*first, from, to, |_, _, slot| {
                lent &= slot.is_lent_to(member);
                if lent {
                    slot.lock = slot.lock.take().map(|lock| Lock { until_ms, ..lock });
                }
            });
        }
        self.wake_at(until_ms);
        if lent { Ok(()) } else { Err(ErrorCode::InvalidRecordState) }
    }

    fn take(
        &mut self,
        member: &str,
        acknowledgement: &Acknowledgement,
        limits: &InFlightLimits,
        taken: &mut Taken,
    ) -> Result<(), ErrorCode> {
        if acknowledgement.last < acknowledgement.first {
            return Err(ErrorCode::InvalidRequest);
        }
        let runs = acknowledgement.runs(self.start)?;
        if acknowledgement.last < self.start {
            return Ok(());
        }
        self.check_known(acknowledgement)?;
        for (from, to, kind) in runs {
            if kind == AcknowledgeType::Renew && limits.renew {
                self.renew(member, taken.until_ms, from, to)?;
                continue;
            }
            if kind == AcknowledgeType::Renew || !self.is_lent(from, to, member) {
                return Err(ErrorCode::InvalidRecordState);
            }
            for (first, batch) in self.batches.range_mut(..=to).filter(|(_, batch)| batch.last >= from) {
                batch.change(*first, from, to, |first, last, slot| {
                    slot.state = match kind {
                        AcknowledgeType::Renew => return,
                        AcknowledgeType::Accept => RecordState::Acknowledged,
                        AcknowledgeType::Release => slot.given_back(limits.max_delivery_count),
                        AcknowledgeType::Gap | AcknowledgeType::Reject => RecordState::Archived,
                    };
                    slot.storing = Some(taken.id);
                    taken.changed.push(state_batch(first, last, slot));
                });
            }
        }
        Ok(())
    }

    fn is_lent(&self, from: i64, to: i64, member: &str) -> bool {
        let overlapping = self.batches.range(..=to).filter(|(_, batch)| batch.last >= from);
        let mut slots = overlapping.flat_map(|(first, batch)| batch.within(*first, from, to));
        slots.all(|(_, _, slot)| slot.is_lent_to(member))
    }

    /// Whether these offsets are among those in flight.
    fn check_known(&self, acknowledgement: &Acknowledgement) -> Result<(), ErrorCode> {
        let Acknowledgement { first, last, .. } = *acknowledgement;
        let at = |offset: i64| self.batches.range(..=offset).next_back().map(|(first, _)| *first);
        let passed = first < self.start && last >= self.start;
        let floor = at(first).or_else(|| if passed { at(self.start) } else { None });
        let floor = floor.ok_or(ErrorCode::InvalidRecordState)?;
        let known_last = self.batches.range(floor..=last).next_back().map(|(_, batch)| batch.last);
        match known_last {
            Some(known) if known >= last => Ok(()),
            _ => Err(ErrorCode::InvalidRequest),
        }
    }

    /// A member's session ends: what it has is free for others, or given up if it was lent often enough.
    pub fn release(&mut self, member: &str, limits: &InFlightLimits) -> Option<ToStore> {
        let id = self.new_store();
        let changed = self.give_back(limits, Some(id), |slot| slot.is_lent_to(member));
        self.to_store(id, changed)
    }

    /// Ends the locks whose time is over. Their records are free at once; what is to be stored is best written, then
    /// [`expiry_stored`](Self::expiry_stored).
    pub fn expire(&mut self, now_ms: i64, limits: &InFlightLimits) -> Option<ToStore> {
        while self.next_deadline().is_some_and(|at| at <= now_ms) {
            self.deadlines.pop();
        }
        let is_over = |slot: &Slot| slot.state == RecordState::Acquired && slot.is_overdue(now_ms);
        let changed = self.give_back(limits, None, is_over);
        let id = self.new_store();
        self.to_store(id, changed)
    }

    /// Gives back what is `meant`; without a `store` at once.
    fn give_back(
        &mut self,
        limits: &InFlightLimits,
        store: Option<StoreId>,
        meant: impl Fn(&Slot) -> bool,
    ) -> Vec<StateBatch> {
        let (start, mut changed, mut freed) = (self.start, Vec::new(), false);
        for (first, batch) in &mut self.batches {
            if !batch.runs.iter().any(|run| meant(&run.slot)) {
                continue;
            }
            for (from, to) in [(i64::MIN, start - 1), (start, i64::MAX)] {
                batch.change(*first, from, to, |first, last, slot| {
                    if !meant(slot) {
                        return;
                    }
                    // What the log does not have any more is of no use to anybody.
                    slot.state = match last < start {
                        true => RecordState::Archived,
                        false => slot.given_back(limits.max_delivery_count),
                    };
                    slot.storing = store;
                    if store.is_none() {
                        slot.lock = None;
                    }
                    freed |= slot.is_free();
                    changed.push(state_batch(first, last, slot));
                });
            }
        }
        self.look_back |= freed;
        changed
    }
}

fn state_batch(first: i64, last: i64, slot: &Slot) -> StateBatch {
    StateBatch { first, last, delivery_count: slot.delivery_count, delivery_state: slot.state.id() }
}
